// The page. Only the rows near the view are elements; all boxes are bits, and what is not stored yet is in `pending`.
// A click is sent as [its number, box, what it is to be], again after each new connection, until the server says that it is stored;
// until then the box shows that it is pending, and the state that it still has.

const CELL = 30; // pixels, as in page.css
const MARGIN = 4; // rows above and below the view that are there too
const ELEMENTS_MAX = 4500; // of all rows: a larger view has fewer columns
const PENDING_MAX = 500; // clicks that are not stored: more would be refused
const SILENT = 6000, AGAIN = 500; // milliseconds: a connection without a word is given up; how soon the next one is tried

const container = document.getElementById("boxes");
const pending = new Map(); // box → [number of its last click, what it is to be]
const rows = new Map(); // row → its element
const header = document.querySelector("header");
let number = 0, drawn = -1, bits = new Uint8Array(0), columns = 1, clicks = 0;
let socket = null, isLive = false, heard = 0, isDrawn = true;

const isChecked = (box) => Boolean((bits[box >> 3] >> (box & 7)) & 1);
const element = (box) => document.getElementById(`box-${box}`);

function show(input, box) {
  const isPending = pending.has(box), checked = isChecked(box);
  if (input.checked !== checked) input.checked = checked;
  if (input.classList.contains("pending") !== isPending) {
    input.classList.toggle("pending", isPending);
    input.setAttribute("aria-busy", isPending);
  }
}

function state() {
  const text = !isLive ? "reconnecting" : pending.size ? "saving" : "live";
  const output = document.getElementById("state");
  if (output.textContent !== text) output.textContent = output.className = text;
}

// Rows: an element that left the view is used again for one that came into it.

function fill(row, at) {
  row.style.transform = `translateY(${at * CELL}px)`;
  const first = at * columns, count = Math.min(columns, number - first);
  while (row.childElementCount > count) row.lastElementChild.remove();
  while (row.childElementCount < count) {
    const input = document.createElement("input");
    input.type = "checkbox";
    input.tabIndex = -1;
    row.append(input);
  }
  [...row.children].forEach((input, index) => {
    const box = first + index;
    input.id = `box-${box}`;
    input.setAttribute("aria-label", `Box ${box}`);
    show(input, box);
  });
}

function draw() {
  isDrawn = true;
  const top = window.scrollY - container.offsetTop, last = Math.ceil(number / columns) - 1;
  const seen = Math.ceil((top + header.offsetHeight) / CELL); // the first row that the header does not hide
  const from = Math.max(0, Math.floor(top / CELL) - MARGIN);
  const to = Math.min(last, Math.floor((top + window.innerHeight) / CELL) + MARGIN);
  const free = [];
  for (const [at, row] of rows) {
    if (at >= from && at <= to) continue;
    rows.delete(at);
    if (row.contains(document.activeElement)) document.activeElement.blur(); // else it would have another box's focus
    free.push(row);
  }
  for (let at = to, below = null; at >= from; below = rows.get(at--)) {
    if (rows.has(at)) continue;
    let row = free.pop();
    if (!row) {
      row = document.createElement("div");
      row.className = "row";
    }
    rows.set(at, row);
    fill(row, at);
    container.insertBefore(row, below); // in order: so it is read to who does not see it
  }
  free.forEach((row) => row.remove());
  if (!container.contains(document.activeElement)) enter(Math.max(0, Math.min(seen, last)) * columns);
}

function drawSoon() {
  if (isDrawn) requestAnimationFrame(draw);
  isDrawn = false;
}

function layOut() {
  const rowsInView = Math.ceil(window.innerHeight / CELL) + 2 * MARGIN + 1;
  const fitting = Math.min(Math.floor(container.clientWidth / CELL), Math.floor(ELEMENTS_MAX / rowsInView) - 1);
  if (fitting === columns && number === drawn) return drawSoon();
  const first = Math.max(0, Math.floor((window.scrollY - container.offsetTop) / CELL) * columns);
  const focused = container.contains(document.activeElement) ? boxOf(document.activeElement) : null;
  columns = Math.max(1, fitting);
  drawn = number;
  container.style.height = `${Math.ceil(number / columns) * CELL}px`;
  rows.forEach((row) => row.remove());
  rows.clear();
  if (first > 0) window.scrollTo(0, container.offsetTop + Math.floor(first / columns) * CELL);
  draw();
  if (focused !== null && focused < number) goTo(focused);
}

// The keyboard: one box is in the order of Tab, arrows go to the others.

let entered = null; // the element of that one

function enter(box) {
  if (entered) entered.tabIndex = -1;
  entered = element(box);
  if (entered) entered.tabIndex = 0;
}

function goTo(box, block) {
  const y = container.offsetTop + Math.floor(box / columns) * CELL;
  const head = header.offsetHeight;
  const isInView = y >= window.scrollY + head && y + CELL <= window.scrollY + window.innerHeight;
  if (block === "center" || !isInView) {
    const above = block === "center" ? window.innerHeight / 2 : y < window.scrollY + head ? head + CELL : window.innerHeight - 2 * CELL;
    window.scrollTo(0, y - above);
    draw();
  }
  enter(box);
  element(box)?.focus({ preventScroll: true });
}

container.addEventListener("keydown", (event) => {
  if (event.altKey || event.metaKey) return;
  const box = boxOf(event.target), row = Math.floor(box / columns) * columns;
  const page = Math.max(1, Math.floor((window.innerHeight - header.offsetHeight) / CELL) - 1) * columns;
  const to = {
    ArrowLeft: box - 1, ArrowRight: box + 1, ArrowUp: box - columns, ArrowDown: box + columns,
    PageUp: Math.max(box - page, box % columns), PageDown: box + page < number ? box + page : number - 1,
    Home: event.ctrlKey ? 0 : row, End: event.ctrlKey ? number - 1 : Math.min(row + columns, number) - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (to >= 0 && to < number) goTo(to);
});
container.addEventListener("focusin", (event) => enter(boxOf(event.target)));

function boxOf(input) {
  return Number(input.id.slice("box-".length));
}

// Clicks, and what the server says.

container.addEventListener("change", (event) => {
  const box = boxOf(event.target);
  if (!pending.has(box) && pending.size >= PENDING_MAX) return show(event.target, box);
  pending.set(box, [++clicks, !(pending.get(box)?.[1] ?? isChecked(box))]);
  show(event.target, box);
  send(box);
  state();
});

function send(box) {
  const [click, wanted] = pending.get(box);
  if (isLive) socket.send(JSON.stringify([click, box, wanted]));
}

function showAll() {
  for (const row of rows.values()) for (const input of row.children) show(input, boxOf(input));
}

function hear(event) {
  heard = performance.now();
  if (event.data instanceof ArrayBuffer) {
    bits = new Uint8Array(event.data);
    showAll();
    if (isLive) return;
    isLive = true;
    pending.forEach((_click, box) => send(box));
    return state();
  }
  const told = JSON.parse(event.data);
  if (told.boxes !== undefined) {
    if (told.boxes === number) return;
    number = told.boxes;
    for (const box of pending.keys()) if (box >= number) pending.delete(box);
    bits = new Uint8Array(Math.ceil(number / 8));
    layOut();
    return goToHash();
  }
  for (const [box, checked] of told.changed) {
    if (isChecked(box) !== checked) bits[box >> 3] ^= 1 << (box & 7);
  }
  const stored = new Set(told.stored);
  for (const [box, [click]] of pending) if (stored.has(click)) pending.delete(box), told.changed.push([box]);
  for (const [box] of told.changed) if (element(box)) show(element(box), box);
  document.getElementById("checked").textContent = told.checked;
  document.getElementById("here").textContent = told.here;
  state();
}

function connect() {
  const mine = (socket = new WebSocket(`ws://${location.host}/boxes`));
  socket.binaryType = "arraybuffer";
  heard = performance.now();
  socket.onmessage = hear;
  socket.onclose = () => mine === socket && lose();
}

function lose() {
  socket.onmessage = null;
  socket.close(); // it may take long to hear that: nobody waits
  socket = null;
  isLive = false;
  state();
  setTimeout(connect, AGAIN);
}

setInterval(() => {
  if (socket !== null && performance.now() - heard > SILENT) lose();
}, 1000);

function goToHash() {
  const box = Number(/^#box-(\d+)$/.exec(location.hash)?.[1] ?? NaN);
  if (box < number) goTo(box, "center");
}

window.addEventListener("scroll", drawSoon, { passive: true });
window.addEventListener("resize", layOut);
window.addEventListener("hashchange", goToHash);
connect();
