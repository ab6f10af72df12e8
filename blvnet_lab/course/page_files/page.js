// Four networks on sample clips, and one on the camera, all in this browser.
const $ = (id) => document.getElementById(id);
const make = (tag, props, ...inside) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...inside);
  return node;
};
const plain = (name) => name.replaceAll("_", " ");
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const upTo = (count) => [...Array(count).keys()];
const same = (a, b) => a.every((x, i) => Math.abs(x - b[i]) < 1e-3); // less is rounding
const report = (error) => ($("status").textContent = `This does not work here: ${error.message}`);
function softmax(logits) {
  const powers = logits.map((x) => Math.exp(x - Math.max(...logits)));
  return powers.map((x) => x / powers.reduce((a, b) => a + b));
}

let about, ort, frames; // page.json, onnxruntime-web, and the bytes (H, W, RGB) of each frame
// `chosen` is a place in the order; so is `dragged`, or -1
const now = { clip: 0, order: [], chosen: 0, dragged: -1, taps: {} };

// --- networks and pictures

const sessions = {};
const load = (name) => (sessions[name] ??= ort.InferenceSession.create(`${name}.onnx`));
const tensor = (values, shape) => new ort.Tensor("float32", values, shape);

const frame = (i) => frames[now.clip * about.frames + i];

function normalised(clip) { // bytes (H, W, RGB) of each frame -> (1, T, RGB, H, W)
  const { size, mean, std } = about, area = size[0] * size[1];
  const values = Float32Array.from({ length: clip.length * 3 * area }, (_, i) => {
    const plane = Math.floor(i / area), c = plane % 3;
    return (clip[(plane - c) / 3][3 * (i % area) + c] / 255 - mean[c]) / std[c];
  });
  return tensor(values, [1, clip.length, 3, ...size]);
}

async function run({ name }, order, places = []) {
  const feeds = { clip: normalised(order.map(frame)) };
  for (const [tam, rows] of Object.entries(now.taps[name])) {
    feeds[tam] = tensor(rows.flat(), [rows.length, rows[0].length]);
  }
  return (await load(name)).run(feeds, ["logits", ...places]);
}

function paint(canvas, height, width, colour) { // colour: of a pixel, by its number
  const picture = new ImageData(width, height);
  upTo(height * width).forEach((i) => picture.data.set([...colour(i), 255], 4 * i));
  Object.assign(canvas, { height, width }).getContext("2d").putImageData(picture, 0, 0);
  return canvas;
}
const paintFrame = (canvas, i) =>
  paint(canvas, ...about.size, (pixel) => frame(i).subarray(3 * pixel, 3 * pixel + 3));

// --- 1. the clip and its order

const halves = (order) => [...order.slice(order.length / 2), ...order.slice(0, order.length / 2)];
const shuffled = (order) =>
  order.map((i) => [Math.random(), i]).sort(([a], [b]) => a - b).map(([, i]) => i);

function setOrder(order, chosen = now.chosen) {
  now.order = order;
  choose(chosen);
  refresh();
}

function choose(place) {
  now.chosen = place;
  now.order.forEach((i, at) => {
    const button = $("strip").children[at];
    Object.assign(button, { ariaPressed: at === place, ariaLabel: `frame ${i}, at place ${at}` });
    button.replaceChildren(paintFrame(make("canvas"), i), i);
  });
  paintFrame($("screen"), now.order[place]).ariaLabel = `frame ${now.order[place]} of the clip`;
}

function move(from, to) {
  if (to < 0 || to >= about.frames) return;
  setOrder(now.order.toSpliced(from, 1).toSpliced(to, 0, now.order[from]), to);
}

const placeOf = (button) => [...$("strip").children].indexOf(button); // -1: beside the strip
const placeUnder = (pointer) =>
  placeOf(document.elementFromPoint(pointer.clientX, pointer.clientY));

function drag(event) { // a frame, where the pointer was put down on one
  const { dragged } = now, under = placeUnder(event), isOn = event.type === "pointermove";
  if (!isOn) now.dragged = -1;
  const over = isOn && event.buttons && dragged >= 0 ? under : -1;
  [...$("strip").children].forEach((frame, at) => frame.classList.toggle("over", at === over));
  if (event.type === "pointerup" && dragged >= 0 && under !== dragged) move(dragged, under);
}

async function play() {
  const mine = (now.playing = {}); // a second click begins again
  for (let place = 0; place < about.frames && now.playing === mine; place++) {
    await pause(1000 / about.rate, choose(place));
  }
}

function truth(filmed) { // in the samples' classes, one of which this order may make of another
  const turned = about.kinds[now.clip] === "direction" ? filmed.toReversed() : halves(filmed);
  const partner = plain(about.classes[about.partners[now.clip]]);
  const becomes = same(now.order, turned) ? `, which in this order is “${partner}”` : "";
  return `The clip was filmed as “${plain(about.classes[now.clip])}”${becomes}.`;
}

function verdict(shares, isAsFilmed) {
  const [first, second] = upTo(shares.length).sort((a, b) => shares[b] - shares[a]);
  const isTorn = about.partners[first] === second && shares[second] > shares[first] / 2;
  const likely = isTorn || shares[second] > 0.1 ? [first, second] : [first];
  const answers = likely.map((i) => `${plain(about.classes[i])} ${Math.round(100 * shares[i])} %`);
  const remarks = [isTorn ? ": it cannot tell" : "", isAsFilmed ? ", as in the order filmed" : ""];
  return `${answers.join(", ")}${remarks.join("")}.`;
}

async function answer() {
  const rows = [], place = $("place").value, filmed = upTo(about.frames);
  for (const network of about.networks.slice(0, 4)) {
    const found = await run(network, now.order, network === chosenNetwork() ? [place] : []);
    const logits = [...found.logits.data], shares = softmax(logits), bar = make("i");
    const before = same(now.order, filmed) ? null : (await run(network, filmed)).logits.data;
    const words = `${network.title}: ${verdict(shares, before && same(logits, before))}`;
    bar.style.width = `${100 * Math.max(...shares)}%`;
    rows.push(make("p", { logits }, words, make("span", { className: "bar" }, bar)));
    now.maps = found[place] ?? now.maps;
  }
  $("answers").replaceChildren(make("p", {}, truth(filmed)), ...rows);
  drawMaps();
}

async function refresh() { // of the changes that come while it computes, the last is computed
  now.isStale = true;
  if ($("answers").ariaBusy === "true") return;
  for ($("answers").ariaBusy = true; now.isStale; await answer().catch(report)) now.isStale = false;
  $("answers").ariaBusy = false;
}

// --- 2. maps and taps

const chosenNetwork = () => about.networks[$("network").selectedIndex];

async function listPlaces() {
  const { outputNames } = await load(chosenNetwork().name), kept = $("place").value;
  const names = outputNames.slice(1, -1); // without logits and classifier
  $("place").replaceChildren(...names.map((name) => make("option", {}, name)));
  $("place").value = names.includes(kept) ? kept : names[0];
  await refresh();
}

function drawMaps() {
  const [, count, channels, height, width] = now.maps.dims, area = height * width;
  $("channel").max = channels - 1;
  const channel = Number(($("number").value = $("channel").value));
  const planes = upTo(count).map((t) => t * channels + channel);
  const maps = planes.map((i) => now.maps.data.subarray(i * area, (i + 1) * area));
  const all = maps.flatMap((map) => [...map]), low = Math.min(...all), high = Math.max(...all);
  const limit = Math.max(high, -low) || 1;
  $("maps").replaceChildren(...maps.map((map, t) => {
    const canvas = paint(make("canvas", { map }), height, width, (i) => { // white is zero
      const end = map[i] > 0 ? [178, 24, 43] : [33, 102, 172];
      return end.map((full) => 255 + (Math.abs(map[i]) / limit) * (full - 255));
    });
    return make("figure", {}, canvas, make("figcaption", {}, t));
  }));
  $("low").textContent = `−${($("high").textContent = limit.toFixed(2))}`;
  const what = `${count === about.frames ? "Frames" : "Pairs"} 0 to ${count - 1} in this order`;
  const range = low || high ? `from ${low.toFixed(2)} to ${high.toFixed(2)}` : "a silent channel";
  $("seen").textContent = `${what}: ${range}.`;
  $("maps").ariaLabel = `${$("place").value}, channel ${channel}. ${$("seen").textContent}`;
  drawTaps(channel);
}

function drawTaps(channel) {
  const { name, taps } = chosenNetwork(), rows = now.taps[name][`${$("place").value}.taps`];
  $("taps").hidden = !rows;
  rows?.forEach((row, i) => {
    const [slider, output] = $("taps").children[i].children;
    slider.value = output.value = row[channel].toFixed(2);
    slider.oninput = () => refresh((row[channel] = Number(slider.value)));
  });
  const isOwn = JSON.stringify(now.taps[name]) === JSON.stringify(taps);
  $("turned").textContent = !Object.keys(taps).length ? "This network has no taps: see bLVNet-TAM."
    : isOwn ? "All taps are the learned ones." : "Some taps are not the learned ones.";
}

function setTaps(change) {
  const { name, taps } = chosenNetwork();
  for (const tam of Object.keys(taps)) now.taps[name][tam] = change(taps[tam]);
  refresh();
}

// --- 3. the camera

const say = (text) => ($("live-words").textContent = text);

async function startCamera() {
  if (now.camera) return;
  if (!navigator.mediaDevices) throw Error("browsers want the page from https, or localhost");
  const video = (now.camera = make("video", { muted: true, playsInline: true }));
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    await video.play();
    await follow(video);
    if (now.camera === video) throw Error("it is gone");
  } finally { // stopped, also while the browser asked, or failed
    video.srcObject?.getTracks().forEach((track) => track.stop());
    if (now.camera === video) now.camera = null;
  }
}

async function follow(video) {
  const session = await load(about.networks.at(-1).name), states = {}, last = [];
  const isOn = () => now.camera === video && video.srcObject.active;
  for (const { name, shape } of session.inputMetadata.slice(1)) { // zeros: nothing was before
    const sides = [1, ...shape.slice(1)];
    states[name] = tensor(new Float32Array(sides.reduce((a, b) => a * b)), sides);
  }
  for (let pair = [], said = ""; isOn(); pair = pair.length < 2 ? pair : []) {
    const begin = performance.now();
    pair.push(grab(video));
    if (pair.length === 2) {
      const found = await session.run({ frames: normalised(pair), ...states });
      const logits = [...found.logits.data], ms = Math.round(performance.now() - begin);
      for (const name in states) states[name] = found[name.replace("before", "after")];
      last.splice(about.frames / 2 - 1);
      last.unshift(logits); // as many as in a clip, averaged
      const mean = logits.map((_, i) => last.reduce((sum, x) => sum + x[i], 0) / last.length);
      const share = Math.max(...softmax(mean)), best = mean.indexOf(Math.max(...mean));
      const words = plain(about.classes[best]);
      $("speed").value = `${words} ${Math.round(100 * share)} %; ${ms} ms a pair of frames`;
      if (words !== said) say(`It sees: ${(said = words)}.`); // read aloud only where it changes
      $("live").dispatchEvent(new CustomEvent("answer", { detail: { pair, logits } }));
    }
    await pause(1000 / about.rate - (performance.now() - begin));
  }
}

function grab(video) { // the square in the middle, as small as the frames of the training
  const [height, width] = about.size, { videoWidth, videoHeight } = video;
  const side = Math.min(videoWidth, videoHeight), corner = [videoWidth - side, videoHeight - side];
  Object.assign($("live"), { height, width });
  const pen = $("live").getContext("2d", { willReadFrequently: true });
  pen.setTransform(-1, 0, 0, 1, width, 0); // as in a mirror: to one's left is to the left
  pen.drawImage(video, ...corner.map((x) => x / 2), side, side, 0, 0, width, height);
  return pen.getImageData(0, 0, width, height).data.filter((_, i) => i % 4 < 3);
}

// --- the beginning

const CLICKED = {
  play, stop: () => say("The camera is off.", (now.camera = null), ($("speed").value = "")),
  filmed: () => setOrder(upTo(about.frames)),
  reverse: () => setOrder(now.order.toReversed()), halves: () => setOrder(halves(now.order)),
  shuffle: () => setOrder(shuffled(now.order)), earlier: () => move(now.chosen, now.chosen - 1),
  later: () => move(now.chosen, now.chosen + 1), own: () => setTaps(structuredClone),
  off: () => setTaps((rows) => rows.map((row, i) => row.map(() => Number(i === 1)))),
  start: () => startCamera().catch((e) => say(`No camera: ${e.message}. Parts 1 and 2 need none.`)),
};
const CHANGED = {
  clip: () => setOrder(upTo(about.frames), 0, (now.clip = $("clip").selectedIndex)),
  network: listPlaces, place: refresh, channel: drawMaps,
};

async function begin() {
  const [json, bytes] = await Promise.all([fetch("page.json"), fetch("clips.bin")]);
  about = await json.json();
  const all = await bytes.arrayBuffer(), size = 3 * about.size[0] * about.size[1];
  frames = upTo(all.byteLength / size).map((i) => new Uint8Array(all, i * size, size));
  const runtime = new URL(`${about.runtime}ort.wasm.bundle.min.mjs`, document.baseURI).href;
  ort = await import(runtime).catch(() => {
    throw Error(`${runtime} does not come. Is there a connection to the internet?`);
  });
  ort.env.wasm.numThreads = 1; // more need headers that few servers send
  for (const { name, title, taps } of about.networks.slice(0, 4)) {
    $("status").textContent = `Loading ${title} …`;
    await load(name);
    now.taps[name] = structuredClone(taps);
    $("network").append(make("option", { selected: true }, title));
  }
  $("clip").append(...about.classes.map((name) => make("option", {}, plain(name))));
  const places = upTo(about.frames).map((at) => make("button", { onclick: () => choose(at) }));
  $("strip").append(...places);
  document.onpointerdown = (event) => (now.dragged = placeUnder(event));
  document.onpointermove = document.onpointercancel = document.onpointerup = drag;
  document.onclick = ({ target }) => CLICKED[target.id]?.();
  document.oninput = ({ target }) => CHANGED[target.id]?.();
  const links = about.notebooks ? document.querySelectorAll(".course") : [];
  links.forEach((link) => (link.href = about.notebooks));
  document.querySelector("main").hidden = false;
  now.order = upTo(about.frames);
  choose(0);
  await listPlaces();
  $("status").textContent = "";
}

begin().catch(report);
