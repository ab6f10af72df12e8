// Four networks on sample clips, and one on the camera, all in this browser. index.html says what
// is shown of the state `now` and what changes it; Vue (https://vuejs.org) keeps the page to it.
import * as ort from "onnxruntime-web";
import { computed, createApp, reactive, watch } from "vue";
import camera from "./camera.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => `${Math.round(100 * share)} %`;
const upTo = (count) => [...Array(count).keys()];
const same = (a, b) => a.every((x, i) => Math.abs(x - b[i]) < 1e-3); // less is rounding
function softmax(logits) {
  const powers = logits.map((x) => Math.exp(x - Math.max(...logits)));
  return powers.map((x) => x / powers.reduce((a, b) => a + b));
}

// --- what comes from the server
const report = ({ message }) => ($("status").textContent = `This does not work here: ${message}`);
addEventListener("error", ({ error }) => report(error));
const about = await (await fetch("page.json")).json();
const clips = new Uint8ClampedArray(await (await fetch("clips.bin")).arrayBuffer());
const { size, classes, networks } = about, [height, width] = size, filmed = upTo(about.frames);
const tensor = (values, shape) => new ort.Tensor("float32", values, shape);
for (const network of networks) {
  $("status").textContent = `Loading ${network.title} …`;
  network.session = await ort.InferenceSession.create(`${network.name}.onnx`);
}
const causal = networks.pop(); // for the camera

const now = reactive({
  clip: 0, order: filmed, chosen: 0, dragged: -1, over: -1, // the last three: places in the order
  network: networks.length - 1, place: "", channel: 0, maps: null, // of this place
  taps: networks.map(({ taps }) => structuredClone(taps)),
  answers: [], asked: 0, answered: 0, seen: null,
});

// --- the clip and its order
const bytes = 4 * height * width, start = (k) => bytes * (about.frames * now.clip + k); // RGBA
const frame = (i) => new ImageData(clips.subarray(start(i), start(i + 1)), width, height);
const paint = (canvas, { value }) => canvas.getContext("2d").putImageData(value, 0, 0);

function move(from, to) {
  if (from < 0 || from === to || !filmed.includes(to)) return;
  now.order = now.order.toSpliced(from, 1).toSpliced(to, 0, now.order[from]);
  now.chosen = to;
}
onpointerup = onpointercancel = () => (now.dragged = now.over = -1);

function play() { // a second click begins again
  clearInterval(play.timer);
  const next = () => (now.chosen < about.frames - 1 ? now.chosen++ : clearInterval(play.timer));
  play.timer = setInterval(next, 1000 / about.rate);
  now.chosen = 0;
}

// --- the answers
function normalised(clips) { // RGBA bytes of the frames of each -> (B, T, RGB, H, W)
  const colours = (rgba) => about.colours.flatMap(([factor, shift], c) =>
    upTo(height * width).map((i) => factor * rgba[4 * i + c] + shift));
  return tensor(clips.flat().flatMap(colours), [clips.length, clips[0].length, 3, ...size]);
}

async function answer() {
  const { network, order } = now, point = place.value, isMoved = !same(order, filmed);
  const orders = isMoved ? [order, filmed] : [filmed], answers = [];
  const clip = normalised(orders.map((order) => order.map((i) => frame(i).data)));
  for (const [k, { session }] of networks.entries()) {
    const feeds = { clip }, rows = now.taps[k];
    for (const tam in rows) feeds[tam] = tensor(rows[tam].flat(), [3, rows[tam][0].length]);
    const found = await session.run(feeds, k === network ? ["logits", point] : ["logits"]);
    const logits = [...found.logits.data], asFilmed = logits.splice(classes.length);
    answers.push({ logits, shares: softmax(logits), isSame: isMoved && same(logits, asFilmed) });
    if (k !== network) continue;
    now.maps = found[point];
    now.channel = Math.min(now.channel, now.maps.dims[2] - 1);
  }
  now.answers = answers;
}

let queue = Promise.resolve();
function refresh() { // of the changes that come while it computes, the last is computed
  const mine = ++now.asked, last = () => mine === now.asked && answer().catch(report);
  queue = queue.then(last).then(() => (now.answered = mine));
}

function verdict({ shares, isSame }) {
  const [first, second] = upTo(shares.length).sort((a, b) => shares[b] - shares[a]);
  const isTorn = about.partners[first] === second && shares[second] > shares[first] / 2;
  const likely = isTorn || shares[second] > 0.1 ? [first, second] : [first];
  const words = likely.map((i) => `${classes[i]} ${percent(shares[i])}`).join(", ");
  return `${words}${isTorn ? ": it cannot tell" : ""}${isSame ? ", the same as filmed" : ""}.`;
}

// --- maps and taps
const network = computed(() => networks[now.network]); // that one looks into
const place = computed(() => // the one that was chosen, where the network has it
  network.value.places.find((name) => name === now.place) ?? network.value.places[0]);

const maps = computed(() => { // of one channel, for each frame or pair; zero is transparent
  const { data, dims } = now.maps, [, count, channels, high, wide] = dims, area = high * wide;
  const starts = upTo(count).map((t) => (t * channels + now.channel) * area);
  const values = starts.map((start) => [...data.subarray(start, start + area)]);
  const low = Math.min(...values.flat()), top = Math.max(...values.flat());
  const limit = Math.max(top, -low) || 1;
  const rgba = (x) => [...(x > 0 ? [178, 24, 43] : [33, 102, 172]), (255 * Math.abs(x)) / limit];
  const picture = (map) => new ImageData(Uint8ClampedArray.from(map.flatMap(rgba)), wide);
  return { channels, values, low, top, limit, pictures: values.map(picture) };
});

const taps = computed(() => now.taps[now.network][`${place.value}.taps`]); // 3 rows of channels
const setTaps = (given) => (now.taps[now.network] = structuredClone(given));

// --- the camera: camera.js, which is made for notebooks, hands over pairs of frames
const model = {
  get: (name) => ({ size, fps: about.rate })[name],
  on: (_, answered) => (model.answered = answered),
  send: ({ time }, _, pair) => see(time, pair).catch(report).then(() => model.answered()),
};
const blank = causal.session.inputMetadata.slice(1).map(({ name, shape: [, ...sides] }) =>
  [name, tensor(new Float32Array(sides.reduce((a, b) => a * b)), [1, ...sides])]); // zeros
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
  now.seen = { name: classes[shares.indexOf(share)], share: percent(share), ms };
  $("camera").dispatchEvent(new CustomEvent("answer", { detail: { pair, logits } }));
  latest = time;
}

await answer(); // if it fails, the page says so, and shows no more
watch(() => [now.clip, now.order, now.taps, now.network, place.value], refresh, { deep: true });
const shown = { about, now, filmed, network, place, maps, taps, frame, same, move, play, verdict };
createApp({ setup: () => ({ ...shown, setTaps }), directives: { paint } }).mount("main");
camera.render({ model, el: $("camera") });
$("status").textContent = "";
