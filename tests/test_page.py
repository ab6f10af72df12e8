"""The web page, in Chromium, from an empty profile: what it shows is what PyTorch computes.

onnxruntime-web and Vue come from npm, once; without them the tests in the browser are skipped.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import LIMIT_S, ROOT, new_page
from shown import MANIFEST, shipped

from blvnet_lab import data, introspect
from blvnet_lab.course import site as course_page
from blvnet_lab.course.site import LOCAL, NEEDED, ONLINE, write_page
from blvnet_lab.data import normalize
from blvnet_lab.datasets.remote import serve_mirror
from blvnet_lab.deploy import Stream

SCREENSHOTS = ROOT / "build" / "screenshots"
FOUR = ("tsn", "tsn_blnet", "blvnet", "blvnet_tam")
DESK, PHONE = {"width": 1100, "height": 800}, {"width": 360, "height": 740}
EXACT = {"rtol": 0, "atol": 1e-4}
READY = "document.querySelector('#maps canvas') && answers.ariaBusy === 'false'"


def install_runtime(out: Path) -> None:
    """Put the page's libraries where it looks for them; OSError where npm cannot get them."""
    command = ["npm", "install", "--no-audit", "--no-fund", *NEEDED.split()]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise OSError(f"npm cannot get {NEEDED}: {done.stderr[-200:]}")


@pytest.fixture(scope="module")
def site(tmp_path_factory, without_callers) -> Path:
    out = tmp_path_factory.mktemp("page")
    try:
        install_runtime(out)
    except OSError as error:  # there may be no npm, too
        pytest.skip(str(error))
    found = write_page(out)
    assert f"--directory {out}" in str(found) and "no internet" in str(found)
    of_npm = {"node_modules", "package.json", "package-lock.json"}
    assert {path.name for path in out.iterdir()} == of_npm | {path.name for path in found.files}
    return out


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Files and nothing else, as `python -m http.server` gives them."""
    with serve_mirror(folder) as url:
        yield f"{url}index.html"


@pytest.fixture(scope="module")
def address(site):
    with served(site) as address:
        yield address


@contextmanager
def visited(browser, address: str, *, ready: bool = True, prepare=None, **options) -> Iterator:
    """A page of an empty profile, on which nothing may go wrong."""
    from playwright.sync_api import expect

    with new_page(browser, ("error", "warning"), **{"viewport": DESK} | options) as page:
        if prepare:
            prepare(page)
        page.goto(address)
        if ready:
            page.wait_for_function(READY)
            expect(page.locator("#status")).to_have_text("")
        yield page
        if ready:
            assert page.problems == []


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_function(READY)


def choose(page, selector: str, label: str) -> None:
    page.select_option(selector, label)
    page.wait_for_function(READY)


def will_show(page, selector: str, *words: str) -> None:
    from playwright.sync_api import expect

    for part in words:
        expect(page.locator(selector)).to_contain_text(part)


def assert_logits(page, order: list[int] | slice, clip: torch.Tensor, *names: str) -> None:
    """What is shown of these networks is what PyTorch computes for the clip in this order."""
    logits = shown_logits(page)
    for name in names:
        with torch.no_grad():
            expected = shipped(name)(clip[None, order])[0]
        torch.testing.assert_close(logits[name], expected, **EXACT)


def shown_logits(page) -> dict[str, torch.Tensor]:
    rows = page.evaluate(
        "[...document.querySelectorAll('#answers [class=bar]')].map(bar => bar.parentNode.logits)"
    )
    return dict(zip(FOUR, map(torch.tensor, rows), strict=True))


def shown_maps(page) -> np.ndarray:
    return np.array(
        page.evaluate("[...document.querySelectorAll('#maps canvas')].map(c => [...c.map])")
    )


def clip_of(label: int) -> torch.Tensor:
    """The first validation clip of a class, as the networks get it, (T, C, H, W)."""
    path = MANIFEST.query(f"split == 'val' and label == {label}").path.iloc[0]
    return data.evaluation_transform((64, 64))(data.read_frames(path, data.sample_uniform(24, 8)))


@pytest.mark.browser
def test_numbers_are_those_of_pytorch(browser, address):
    with visited(browser, address) as page:
        for label, button, order in (
            (3, "as filmed", [0, 1, 2, 3, 4, 5, 6, 7]),
            (0, "reverse", [7, 6, 5, 4, 3, 2, 1, 0]),
            (6, "exchange halves", [4, 5, 6, 7, 0, 1, 2, 3]),
        ):
            page.select_option("#clip", index=label)
            press(page, button)
            assert_logits(page, order, clip_of(label), *FOUR)
        will_show(page, "#answers", "“right then left”, which in this order is “left then right”.")
        clip = clip_of(label)[None, order]
        for title, name, point, channel in (
            ("bLVNet-TAM", "blvnet_tam", "stage1.tam", 5),
            ("bLVNet-TAM", "blvnet_tam", "stage2.little", 40),
            ("bLVNet-TAM", "blvnet_tam", "stem.out", 0),
            ("TSN", "tsn", "stem.out", 0),
        ):
            choose(page, "#place", point)
            choose(page, "#network", title)
            page.locator("#channel").fill(str(channel))
            with torch.no_grad(), introspect.capture(model := shipped(name), point) as cache:
                model(clip)
            expected = cache[point][0, :, channel].flatten(1).numpy()
            np.testing.assert_allclose(shown_maps(page), expected, **EXACT)
        assert "This network has no taps" in page.inner_text("#turned")
        assert not page.locator("#taps").is_visible()


@pytest.mark.browser
def test_taps_change_maps_and_answers_and_come_back(browser, address):
    with visited(browser, address) as page:
        page.select_option("#clip", "right then left")
        choose(page, "#place", "stage2.tam")
        page.locator("#channel").fill("7")
        before, maps = page.inner_text("#answers"), shown_maps(page)
        page.get_by_label("prev").focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        page.wait_for_function(READY)
        prev = float(page.get_by_label("prev").input_value())
        assert np.abs(shown_maps(page) - maps).max() > 0.01

        def moved(taps: torch.Tensor) -> torch.Tensor:
            taps[0, 7] = prev
            return taps

        model, clip = shipped("blvnet_tam"), clip_of(6)[None]
        with introspect.edit_taps(model, {"stage2.tam": moved}), torch.no_grad():
            torch.testing.assert_close(shown_logits(page)["blvnet_tam"], model(clip)[0], **EXACT)
        assert "not the learned ones" in page.inner_text("#turned")
        press(page, "no frame sees another")
        assert "bLVNet-TAM: " in (off := page.inner_text("#answers"))
        assert off.split("bLVNet-TAM")[1] != before.split("bLVNet-TAM")[1]
        with introspect.edit_taps(model, {"*": introspect.identity_taps}), torch.no_grad():
            torch.testing.assert_close(shown_logits(page)["blvnet_tam"], model(clip)[0], **EXACT)
        press(page, "learned taps")
        assert page.inner_text("#answers") == before
        assert "All taps are the learned ones" in page.inner_text("#turned")


PLAYED_TWICE = """async () => {
  const screen = document.getElementById('screen'), play = document.getElementById('play');
  const frames = [];
  new MutationObserver(() => frames.push(parseInt(screen.ariaLabel.slice(6)))).observe(
    screen, { attributeFilter: ['aria-label'] });
  play.click();
  await new Promise((done) => setTimeout(done, 100));
  play.click();
  await new Promise((done) => setTimeout(done, 2600));
  return frames;
}"""


def order_of(page) -> list[int]:
    return list(map(int, page.locator("#strip button").all_inner_texts()))


@pytest.mark.browser
def test_frames_move_by_keyboard_and_by_mouse(browser, address):
    with visited(browser, address) as page:
        frames = page.locator("#strip button")
        frames.nth(2).focus()
        page.keyboard.press("Enter")
        assert frames.nth(2).evaluate("node => node === document.activeElement")
        assert frames.nth(2).get_attribute("aria-pressed") == "true"
        page.locator("#later").focus()
        for _ in range(8):  # at the end it stays there
            page.keyboard.press("Space")
        page.wait_for_function(READY)
        assert order_of(page) == [0, 1, 3, 4, 5, 6, 7, 2]
        assert frames.nth(7).get_attribute("aria-label") == "frame 2, at place 7"
        frames.nth(7).drag_to(frames.nth(0))
        page.wait_for_function(READY)
        assert order_of(page) == [2, 0, 1, 3, 4, 5, 6, 7]
        assert_logits(page, order_of(page), clip_of(0), "blvnet_tam")
        title = page.locator("h1")
        for begin, end in ((title, frames.nth(3)), (frames.nth(3), title)):
            begin.drag_to(end)  # no frame is moved
            assert order_of(page) == [2, 0, 1, 3, 4, 5, 6, 7]
            assert page.locator("#strip .over").count() == 0
        press(page, "shuffle")
        assert sorted(order_of(page)) == list(range(8))
        assert "TSN: " in page.inner_text("#answers").split("the same as filmed")[0]
        page.get_by_role("button", name="play").click()
        last = f"frame {order_of(page)[7]} of the clip"
        page.wait_for_function(f"document.getElementById('screen').ariaLabel === '{last}'")
        press(page, "as filmed")
        shown = page.evaluate(PLAYED_TWICE)
        assert shown[shown.index(0) :] in ([*range(8)], [0, *range(8)]), "one after the other"


@pytest.mark.browser
def test_frames_move_by_finger(browser, address):
    with visited(browser, address, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.locator("#strip").scroll_into_view_if_needed()
        boxes = [frames.bounding_box() for frames in page.locator("#strip button").all()]
        middle = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
        finger = page.context.new_cdp_session(page)
        for kind, points in (("Start", [1]), ("Move", [2]), ("Move", [4]), ("End", [])):
            touches = [{"x": middle[at][0], "y": middle[at][1]} for at in points]
            event = {"type": f"touch{kind}", "touchPoints": touches}
            finger.send("Input.dispatchTouchEvent", event)
        page.wait_for_function(READY)
        assert order_of(page) == [0, 2, 3, 4, 1, 5, 6, 7]
        assert page.locator("#strip .over").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_it_can_be_read(browser, address, size, scheme):
    options = {"viewport": size, "color_scheme": scheme, "reduced_motion": "reduce"}
    with visited(browser, address, **options) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        look = "getComputedStyle(document.body).{}.match(/\\d+/g).map(Number)"
        ground, ink = (page.evaluate(look.format(part)) for part in ("backgroundColor", "color"))
        light, dark = (ground, ink) if scheme == "light" else (ink, ground)
        assert min(light) > 200 and max(dark) < 60
        bar = page.locator(".bar i").first
        assert bar.evaluate("bar => getComputedStyle(bar).transitionDuration") == "0s"
        assert 0.1 < bar.evaluate("bar => bar.offsetWidth / bar.parentNode.offsetWidth") < 0.3
        named = "c => c.ariaLabel || c.labels?.[0]?.innerText || c.innerText"
        for control in page.locator("main button, main select, main input").all():
            if control.is_visible():
                assert control.evaluate(named).strip(), control.evaluate("c => c.outerHTML")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = "desk" if size is DESK else "phone"
        page.screenshot(path=SCREENSHOTS / f"page_{name}_{scheme}.png", full_page=True)


COLLECT = """() => {
  window.seen = [];
  const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = async (wanted) => (window.given = await ask(wanted));
  document.getElementById('camera').addEventListener('answer', ({ detail }) =>
    seen.push({ pair: detail.pair.map((bytes) => [...bytes]), logits: detail.logits }));
}"""

WHITE_AT_THE_LEFT = """() => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 160, height: 120 });
  const pen = canvas.getContext('2d');
  setInterval(() => {
    pen.fillRect(0, 0, 160, 120);
    pen.fillStyle = 'white';
    pen.fillRect(0, 0, 80, 120);
    pen.fillStyle = 'black';
  }, 50);
  navigator.mediaDevices.getUserMedia = async () => (window.given = canvas.captureStream(20));
}"""

ASKED = """() => {
  window.given = document.getElementById('screen').captureStream(20);
  navigator.mediaDevices.getUserMedia = () => new Promise((done) => (window.allow = done));
}"""


@pytest.mark.browser
def test_camera_is_followed_pair_by_pair(browser, address):
    with visited(browser, address) as page:
        page.evaluate(COLLECT)
        press(page, "camera on")
        page.wait_for_function("seen.length >= 3")
        seen_words = page.inner_text("#camera + p")
        assert re.fullmatch(r"It sees: \w[\w ]+ \d+ %; \d+ ms a pair of frames", seen_words)
        press(page, "camera off")
        will_show(page, "#camera", "The camera is off.")
        seen, stream = page.evaluate("seen"), Stream(shipped("blvnet_tam_causal"))
        for each in seen[:3]:
            frames = torch.tensor(each["pair"], dtype=torch.uint8).view(1, 2, 64, 64, 4)[..., :3]
            expected = stream(normalize(frames.permute(0, 1, 4, 2, 3)))[0]
            torch.testing.assert_close(torch.tensor(each["logits"]), expected, **EXACT)
        assert len({str(each["pair"]) for each in seen}) == len(seen), "the picture moves"
        page.wait_for_function("given.getTracks().every(track => track.readyState === 'ended')")
        page.wait_for_timeout(800)
        assert page.evaluate("seen.length") <= len(seen) + 1, "it goes on"
        assert not page.locator("#camera + p").is_visible()
        page.evaluate(WHITE_AT_THE_LEFT)
        press(page, "camera on")
        page.wait_for_function(f"seen.length >= {len(seen) + 3}")
        picture = np.array(page.evaluate("seen.at(-1).pair[1]")).reshape(64, 64, 4)[..., :3]
        assert picture[:, :16].max() < 50 and picture[:, 48:].min() > 200, "not as in a mirror"
        page.evaluate("given.getTracks()[0].dispatchEvent(new Event('ended'))")  # unplugged
        will_show(page, "#camera", "The camera is gone.")
        page.evaluate(ASKED)
        press(page, "camera on")
        press(page, "camera off")
        page.evaluate("allow(given)")
        page.wait_for_function("given.getTracks().every(track => track.readyState === 'ended')")


@pytest.mark.browser
def test_without_camera_network_or_server_it_says_what_to_do(browser, site, address):
    with visited(browser, address) as page:
        for devices, words in (
            ("{ getUserMedia: () => Promise.reject(Error('Permission denied')) }", "Permission"),
            ("undefined", "browsers give one only to pages from https, or loc"),
        ):
            value = f"{{ value: {devices}, configurable: true }}"
            page.evaluate(f"Object.defineProperty(navigator, 'mediaDevices', {value})")
            press(page, "camera on")
            will_show(page, "#camera", "No camera: ", words)
    index = (site / "index.html").read_text().replace(json.dumps(LOCAL), json.dumps(ONLINE))
    anybody = {"Access-Control-Allow-Origin": "*"}

    def serve(route) -> None:
        name, file = re.search(r"/npm/([^@]+)@[^/]+/(.+)", route.request.url).groups()
        route.fulfill(path=site / "node_modules" / name / file, headers=anybody)

    def online(page) -> None:
        page.route("**/index.html", lambda route: route.fulfill(body=index))
        page.route("https://cdn.jsdelivr.net/**", serve)

    with visited(browser, address, prepare=online) as page:
        assert page.locator("#answers p").count() == 5

    def broken(page) -> None:
        changed = (site / "page.json").read_text().replace('"stem.tam"', '"stem.none"')
        page.route("**/page.json", lambda route: route.fulfill(body=changed))

    with visited(browser, address, ready=False, prepare=broken) as page:
        will_show(page, "#status", "This does not work here: ", "stem.none")
        assert page.locator("main").is_hidden()

    def cut_off(page) -> None:
        online(page)
        page.route(ONLINE["vue"], lambda route: route.abort())

    with visited(browser, address, ready=False, prepare=cut_off) as page:
        will_show(page, "#status", "Is there a connection to the internet?")
    with visited(browser, (site / "index.html").as_uri(), ready=False) as page:
        will_show(page, "#status", "It needs a web server: python -m http.server")


def test_nothing_is_written_over_and_the_runtime_is_named(tmp_path, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("the work began before the check")

    monkeypatch.setattr(course_page, "export_with_taps", never)
    mine = tmp_path / "clips.bin"
    mine.write_text("mine")
    with pytest.raises(FileExistsError, match=r"got .*clips\.bin: choose another .*--replace"):
        write_page(tmp_path)
    assert mine.read_text() == "mine" and list(tmp_path.iterdir()) == [mine]
    for out in (mine, mine / "below"):
        with pytest.raises(OSError):
            write_page(out)
    for name in ("export_with_taps", "export_stream"):
        monkeypatch.setattr(course_page, name, lambda model, path, size: path.touch())
    found = write_page(tmp_path, notebooks="../index.html", replace=True)
    assert json.dumps(ONLINE) in (tmp_path / "index.html").read_text()
    assert mine.stat().st_size == 10 * 8 * 64 * 64 * 4
    assert (tmp_path / "index.html").read_text().count('<a href="../index.html">') == 2
    assert f"npm install {NEEDED}" in str(found)
