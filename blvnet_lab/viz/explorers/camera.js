// The page's camera, as in a mirror: what moves to one's left moves to the left. It films clips for
// the kernel of a notebook, or hands frames in pairs to that, or to the web page of the course.

const PIECE = 1 << 20; // bytes: servers end a connection over one large message
const PICTURES = 30; // a second
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function render({ model, el }) {
  const [height, width] = model.get("size"), fps = model.get("fps"); // 0: clips are filmed
  el.innerHTML = `
    <canvas width="${width}" height="${height}" role="img" aria-label="what the camera sees"
      style="height: 256px; image-rendering: pixelated; background: #8884; display: block"></canvas>
    <button class="jupyter-button widget-button"></button>
    <button class="jupyter-button widget-button" ${fps ? "hidden" : ""}>record</button>
    <input type="file" multiple accept="video/*" aria-label="videos" ${fps ? "hidden" : ""}>
    <div role="status" class="blvnet-camera-status"></div>`;
  const [canvas, power, act, files, status] = el.children;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const say = (text) => (status.textContent = text);
  let video, answered;
  model.on("msg:custom", () => answered?.());
  power.onclick = () => (video ? turn(null, "The camera is off.") : turnOn());
  act.onclick = () => take(film);
  files.onchange = () => take(() => files.files);
  turn(null, "");
  return () => turn(null, "");

  function turn(on, why) {
    video = on;
    act.disabled = true;
    power.textContent = on ? "camera off" : "camera on";
    say(why);
  }

  async function turnOn() {
    const mine = document.createElement("video"), { mediaDevices } = navigator;
    turn(Object.assign(mine, { muted: true, playsInline: true }), "");
    try {
      if (!mediaDevices) throw Error("browsers give one only to pages from https, or localhost");
      mine.srcObject = await mediaDevices.getUserMedia({ video: { frameRate: PICTURES } });
      if (video !== mine) return; // turned off while the browser asked
      mine.srcObject.getVideoTracks()[0].onended = () => turn(null, "The camera is gone.");
      await mine.play();
      act.disabled = video !== mine;
      if (fps) watch(mine);
      for (; video === mine; await pause(1000 / PICTURES)) draw();
    } catch (error) {
      turn(null, `No camera: ${error.message}.${fps ? "" : " Choose files instead."}`);
    } finally {
      mine.srcObject?.getTracks().forEach((track) => track.stop());
    }
  }

  function draw() { // the middle
    const { videoWidth: w, videoHeight: h } = video, scale = Math.max(width / w, height / h);
    pen.setTransform(-scale, 0, 0, scale, width / 2, height / 2);
    pen.drawImage(video, -w / 2, -h / 2);
  }

  async function watch(mine) {
    const begin = performance.now(), pair = [];
    for (let due = begin; ; due += 1000 / fps) {
      await pause(due - performance.now());
      if (video !== mine) return;
      draw();
      pair.push(pen.getImageData(0, 0, width, height).data);
      if (pair.length < 2) continue;
      await hand({ time: (performance.now() - begin) / 1000 }, ...pair.splice(0));
      due = Math.max(due, performance.now() - 1000 / fps); // no pair late, but fewer
    }
  }

  async function film(label) {
    for (let k = model.get("countdown"); k > 0; k--) await pause(1000, say(`${label}: ${k} ...`));
    const recorder = new MediaRecorder(canvas.captureStream(PICTURES));
    const filmed = new Promise((done) => (recorder.ondataavailable = ({ data }) => done(data)));
    recorder.start();
    await pause(1000 * model.get("seconds"), say(`${label}: now!`));
    recorder.stop();
    const kind = recorder.mimeType.includes("mp4") ? "mp4" : "webm"; // a Matroska file, too
    return [new File([await filmed], `recording.${kind}`)];
  }

  async function take(get) { // one file at a time: the kernel puts its pieces together
    const label = model.get("label");
    for (const each of [power, act, files]) each.disabled = true;
    try {
      for (const file of await get(label)) {
        for (let start = 0; start === 0 || start < file.size; start += PIECE) {
          say(`${file.name}: ${Math.round((100 * start) / file.size)} % handed over`);
          const piece = await file.slice(start, start + PIECE).arrayBuffer();
          await hand({ name: file.name, label, start, last: start + PIECE >= file.size }, piece);
        }
      }
      say("");
    } catch ({ message }) {
      say(`Not taken: ${message}.`);
    }
    for (const each of [power, act, files]) each.disabled = each === act && !video;
    files.value = "";
  }

  function hand(content, ...buffers) {
    model.send(content, undefined, buffers);
    return new Promise((done) => (answered = done)); // once who gets it has dealt with it
  }
}

export default { render };
