// Four networks on sample clips, and one on the camera, all in this browser. index.html says what
// is shown of the state `now` and what changes it; Vue (https://vuejs.org) keeps the page to it.
import camera, { pause } from "./camera.js";

const RED = [178, 24, 43], BLUE = [33, 102, 172]; // above and below zero
const $ = (id) => document.getElementById(id);
const plain = (name) => name.replaceAll("_", " ");
const percent = (share) => `${Math.round(100 * share)} %`;
const upTo = (count) => [...Array(count).keys()];
const same = (a, b) => a.every((x, i) => Math.abs(x - b[i]) < 1e-3); // less is rounding
function softmax(logits) {
  const powers = logits.map((x) => Math.exp(x - Math.max(...logits)));
  return powers.map((x) => x / powers.reduce((a, b) => a + b));
}

// --- what comes from the server, and the two libraries

const report = ({ message }) => ($("status").textContent = `This does not work here: ${message}`);
addEventListener("error", ({ error }) => report(error));
const about = await (await fetch("page.json")).json();
const clips = new Uint8ClampedArray(await (await fetch("clips.bin")).arrayBuffer());
const library = (path) => import(path).catch(() => {
  throw Error(`${path} does not come. Is there a connection to the internet?`);
});
const [ort, { computed, createApp, reactive, watch }] =
  await Promise.all(about.libraries.map(library));
ort.env.wasm.numThreads = 1; // more need headers that few servers send

const { size, classes, networks } = about, [height, width] = size, filmed = upTo(about.frames);
const tensor = (values, shape) => new ort.Tensor("float32", values, shape);
for (const network of networks) {
  $("status").textContent = `Loading ${network.title} …`;
  network.session = await ort.InferenceSession.create(`${network.name}.onnx`);
  network.places = network.session.outputNames.slice(1, -1); // without logits and classifier
}
const causal = networks.pop(); // for the camera

const now = reactive({
  clip: 0, order: filmed, chosen: 0, dragged: -1, over: -1, // the last three: places in the order
  network: networks.length - 1, place: "", channel: 0, maps: null, // of this place
  taps: networks.map(({ taps }) => structuredClone(taps)),
  answers: [], asked: 0, answered: 0, seen: "", speed: "",
});

// --- the clip and its order

function frame(i) {
  const bytes = 4 * height * width, start = bytes * (about.frames * now.clip + i); // RGBA
  return new ImageData(clips.subarray(start, start + bytes), width, height);
}

function paint(canvas, { value: picture }) { // an ImageData
  Object.assign(canvas, { width: picture.width, height: picture.height });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

const orders = {
  "as filmed": () => filmed,
  "reverse": (order) => order.toReversed(),
  "exchange halves": (order) => [4, 5, 6, 7, 0, 1, 2, 3].map((at) => order[at]),
  "shuffle": (order) => order.map((i) => [Math.random(), i]).sort().map(([, i]) => i),
};
const isPartner = computed(() => same(now.order, orders[about.turns[now.clip]](filmed)));

function move(from, to) {
  if (from < 0 || from === to || !filmed.includes(to)) return;
  now.order = now.order.toSpliced(from, 1).toSpliced(to, 0, now.order[from]);
  now.chosen = to;
}

function drag({ target, pointerId }, at) {
  target.releasePointerCapture(pointerId); // a finger would stay with what it touched first
  now.dragged = at;
}
onpointerup = onpointercancel = () => (now.dragged = now.over = -1);

async function play() {
  const mine = (play.last = {}); // a second click begins again
  for (let place = 0; place < about.frames && play.last === mine; place++) {
    now.chosen = place;
    await pause(1000 / about.rate);
  }
}

// --- the answers

function normalised(clips) { // RGBA bytes of the frames of each -> (B, T, RGB, H, W)
  const { mean, std } = about, values = [];
  for (const rgba of clips.flat()) {
    for (const c of [0, 1, 2]) {
      for (let i = c; i < rgba.length; i += 4) values.push((rgba[i] / 255 - mean[c]) / std[c]);
    }
  }
  return tensor(values, [clips.length, clips[0].length, 3, ...size]);
}

async function answer() {
  const answers = [], isMoved = !same(now.order, filmed), count = classes.length;
  const clips = isMoved ? [now.order, filmed] : [filmed];
  const clip = normalised(clips.map((order) => order.map((i) => frame(i).data)));
  for (const [k, { session }] of networks.entries()) {
    const feeds = { clip }, places = k === now.network ? [place.value] : [];
    for (const [tam, rows] of Object.entries(now.taps[k])) {
      feeds[tam] = tensor(rows.flat(), [rows.length, rows[0].length]);
    }
    const found = await session.run(feeds, ["logits", ...places]), both = [...found.logits.data];
    const logits = both.slice(0, count), isSame = isMoved && same(logits, both.slice(count));
    answers.push({ logits, shares: softmax(logits), isSame });
    if (!places.length) continue;
    now.maps = found[places[0]];
    now.channel = Math.min(now.channel, now.maps.dims[2] - 1);
  }
  now.answers = answers;
}

let queue = Promise.resolve();
function refresh() { // of the changes that come while it computes, the last is computed
  const mine = ++now.asked;
  queue = queue.then(() => mine === now.asked && answer().catch(report));
  return queue.then(() => (now.answered = mine));
}

function verdict({ shares, isSame }) {
  const [first, second] = upTo(shares.length).sort((a, b) => shares[b] - shares[a]);
  const isTorn = about.partners[first] === second && shares[second] > shares[first] / 2;
  const likely = isTorn || shares[second] > 0.1 ? [first, second] : [first];
  const words = likely.map((i) => `${plain(classes[i])} ${percent(shares[i])}`).join(", ");
  return `${words}${isTorn ? ": it cannot tell" : ""}${isSame ? ", the same as filmed" : ""}.`;
}

// --- maps and taps

const place = computed(() => { // the one that was chosen, where the network has it
  const { places } = networks[now.network];
  return places.includes(now.place) ? now.place : places[0];
});

const maps = computed(() => { // of one channel, for each frame or pair
  const [, count, channels, ...sides] = now.maps.dims, area = sides[0] * sides[1];
  const starts = upTo(count).map((t) => (t * channels + now.channel) * area);
  const values = starts.map((start) => [...now.maps.data.subarray(start, start + area)]);
  const low = Math.min(...values.flat()), high = Math.max(...values.flat());
  const limit = Math.max(high, -low) || 1;
  const rgba = (x) => [...(x > 0 ? RED : BLUE), (255 * Math.abs(x)) / limit]; // zero: transparent
  const picture = (map) => new ImageData(Uint8ClampedArray.from(map.flatMap(rgba)), sides[1]);
  return { channels, values, low, high, limit, pictures: values.map(picture) };
});

const taps = computed(() => now.taps[now.network][`${place.value}.taps`]); // 3 rows of channels
const learned = computed(() => networks[now.network].taps);
const isLearned = () => JSON.stringify(now.taps[now.network]) === JSON.stringify(learned.value);

function setTaps(change) {
  for (const tam in learned.value) now.taps[now.network][tam] = change(learned.value[tam]);
}
const cutOff = (rows) => rows.map((row, i) => row.map(() => Number(i === 1)));

// --- the camera: camera.js, which is made for notebooks, hands over pairs of frames

const model = {
  get: (name) => ({ size, fps: about.rate })[name],
  on: (_, answered) => (model.answered = answered),
  send: ({ time }, _, pair) => see(time, pair).catch(report).then(() => model.answered()),
};
const blank = causal.session.inputMetadata.slice(1).map(({ name, shape }) => {
  const sides = [1, ...shape.slice(1)];
  return [name, tensor(new Float32Array(sides.reduce((a, b) => a * b)), sides)]; // zeros
});
let states, recent, latest = Infinity; // of the network; its answers; when the last one was

async function see(time, pair) {
  if (time < latest) [states, recent] = [Object.fromEntries(blank), []]; // the camera was turned on
  const begin = performance.now();
  const found = await causal.session.run({ frames: normalised([pair]), ...states });
  const logits = [...found.logits.data], ms = Math.round(performance.now() - begin);
  for (const name in states) states[name] = found[name.replace("before", "after")];
  recent = [logits, ...recent].slice(0, about.frames / 2); // as many as in a clip, averaged
  const mean = logits.map((_, i) => recent.reduce((sum, x) => sum + x[i], 0) / recent.length);
  const shares = softmax(mean), share = Math.max(...shares);
  now.seen = plain(classes[shares.indexOf(share)]);
  now.speed = `${percent(share)}; ${ms} ms a pair of frames`;
  $("camera").dispatchEvent(new CustomEvent("answer", { detail: { pair, logits } }));
  latest = time;
}

// --- the beginning

watch(() => now.clip, () => Object.assign(now, { order: filmed, chosen: 0 }));
watch(() => [now.clip, now.order, now.taps, now.network, place.value], refresh, { deep: true });
await refresh();
const state = { about, now, networks, classes, isPartner, place, maps, taps, learned, plain, frame };
const steps = { orders, drag, move, play, verdict, isLearned, setTaps, structuredClone, cutOff };
createApp({ setup: () => ({ ...state, ...steps }) }).directive("paint", paint).mount("main");
camera.render({ model, el: $("camera") });
$("status").textContent = "";
