// The page's camera films clips for the kernel, or hands it frames in pairs. The picture is what a
// mirror shows: what moves to one's left moves to the left.

const PIECE = 1 << 20; // bytes: servers end a connection over one large message
const PICTURES = 30; // a second
const LOOK = "height:256px;image-rendering:pixelated;background:#8884;display:block";

function render({ model, el }) {
  const [height, width] = model.get("size"), fps = model.get("fps"); // 0: clips are filmed
  const add = (kind, given) => el.appendChild(Object.assign(document.createElement(kind), given));
  const button = (textContent, onclick) =>
    add("button", { textContent, onclick, className: "jupyter-button widget-button" });
  const canvas = add("canvas", { width, height, style: LOOK, ariaLabel: "what the camera sees" });
  const power = button("camera on", () => (stream ? turnOff("") : turnOn()));
  const act = button(fps ? "watch" : "record", () => (fps ? watch() : record()));
  const files = add("input", { type: "file", multiple: true, accept: "video/*", hidden: !!fps });
  const status = add("div", { role: "status", className: "blvnet-camera-status" });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  const say = (text) => (status.textContent = text);
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  let stream = null, timer, answered = () => {}, queue = Promise.resolve();
  model.on("msg:custom", () => answered());
  const hand = (content, bytes) => {
    model.send(content, undefined, [bytes]);
    return new Promise((done) => (answered = done)); // once the kernel has dealt with it
  };

  async function turnOn() {
    try {
      if (!navigator.mediaDevices) throw Error("only pages of this machine or by https get one");
      stream = await navigator.mediaDevices.getUserMedia({ video: { frameRate: PICTURES } });
      video.srcObject = stream;
      await video.play();
      stream.getVideoTracks()[0].onended = () => turnOff("The camera is gone.");
      timer = setInterval(draw, 1000 / PICTURES);
      show("camera off", "");
    } catch (error) {
      turnOff(`No camera: ${error.message}.${fps ? "" : " Choose files instead."}`);
    }
  }

  function turnOff(why) {
    clearInterval(timer);
    stream = stream?.getTracks().forEach((track) => track.stop());
    show("camera on", why);
  }

  function show(next, text) {
    power.textContent = next;
    act.disabled = !stream;
    say(text);
  }

  function draw() { // the middle
    const [w, h] = [video.videoWidth, video.videoHeight], scale = Math.max(width / w, height / h);
    pen.setTransform(-scale, 0, 0, scale, (width + scale * w) / 2, (height - scale * h) / 2);
    pen.drawImage(video, 0, 0);
  }

  async function record() {
    power.disabled = act.disabled = true;
    await film().catch((error) => say(`Not recorded: ${error.message}.`));
    power.disabled = false;
    act.disabled = !stream;
  }

  async function film() {
    const label = model.get("label"), parts = [];
    for (let k = model.get("countdown"); k > 0; k--) await wait(1000, say(`${label}: ${k} ...`));
    const recorder = new MediaRecorder(canvas.captureStream(PICTURES));
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.start();
    await wait(1000 * model.get("seconds"), say(`${label}: now!`));
    const stopped = new Promise((done) => (recorder.onstop = done));
    recorder.stop();
    await stopped;
    await line(`recording.${/mp4/.test(recorder.mimeType) ? "mp4" : "webm"}`, label, new Blob(parts));
  }

  async function send(name, label, blob) {
    for (let start = 0; start === 0 || start < blob.size; start += PIECE) {
      say(`${name}: ${Math.round((100 * start) / blob.size)} % handed over`);
      const piece = await blob.slice(start, start + PIECE).arrayBuffer();
      await hand({ name, label, start, last: start + PIECE >= blob.size }, piece);
    }
    say("");
  }

  function line(...recording) { // one after the other
    queue = queue.then(() => send(...recording)).catch((error) => say(`Not read: ${error.message}`));
    return queue;
  }

  files.onchange = () => {
    for (const file of files.files) line(file.name, model.get("label"), file);
    files.value = "";
  };

  async function watch() {
    const mine = stream, begin = performance.now();
    let due = begin, done = null;
    act.disabled = true;
    while (stream === mine) {
      const pair = new Uint8Array(8 * height * width);
      for (const half of [0, pair.length / 2]) {
        await wait((due += 1000 / fps) - performance.now());
        draw();
        pair.set(pen.getImageData(0, 0, width, height).data, half);
      }
      await done; // a slow kernel gets fewer pairs, rather than all of them later and later
      due = Math.max(due, performance.now());
      done = hand({ time: (performance.now() - begin) / 1000 }, pair);
    }
  }

  turnOff("");
  return () => turnOff("");
}

export default { render };
