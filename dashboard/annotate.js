/* Annotating by keyboard: one image and the labels proposed for it; the next images are here before they are needed.

data: what dashboard/annotate.py sends. What is saved goes into an outbox, which is kept in this browser until the server
says of each submission that it is stored: so a lost reply, a second tab or a restarted server loses nothing, and the ids
keep it from being stored twice. All text is data: it reaches the page as text alone. */

const PER_PAGE = 10, RETRY_MS = 3000, MAX_MS = 3600000;
const NEXT = { "": "yes", yes: "unsure", unsure: "", no: "" };
const SAID = { yes: "Yes", no: "No", unsure: "Unsure", "": "" };

export default function ({ data, parentElement, setStateValue }) {
  const view = (parentElement.view ??= create(parentElement));
  view.send = setStateValue;
  receive(view, data);
  return () => close(view);
}

function element(tag, name, parent, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  parent?.appendChild(made);
  return made;
}

function button(name, parent, text, hint, act) {
  const made = element("button", name, parent, text);
  made.type = "button";
  if (hint) made.title = hint;
  made.addEventListener("click", act);
  return made;
}

/* A version 4 UUID, also where the page is not served over https and crypto.randomUUID is not there. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/* Pictures live as long as the tab: the server sends each one once. */
const pictures = (window.secondLookPictures ??= new Map());

function create(parent) {
  const box = element("div", "box", parent);
  const view = { box, queue: [], images: new Map(), done: new Set(), past: [], future: [], outbox: [], sent: 0, at: null };
  view.keys = (event) => key(view, event);
  window.addEventListener("keydown", view.keys, true);
  view.hidden = () => (document.hidden ? pause(view) : resume(view));
  document.addEventListener("visibilitychange", view.hidden);
  view.timer = setInterval(() => view.outbox.length && Date.now() - view.sentAt > RETRY_MS && send(view), 500);
  return view;
}

function close(view) {
  window.removeEventListener("keydown", view.keys, true);
  document.removeEventListener("visibilitychange", view.hidden);
  clearInterval(view.timer);
}

const shelf = ({ data }) => `second-look:${data.database}:${data.annotator}:${data.stage}`;

function stored(view) {
  try {
    return JSON.parse(localStorage.getItem(shelf(view)) ?? "[]");
  } catch {
    return [];
  }
}

function keep(view) {
  try {
    localStorage.setItem(shelf(view), JSON.stringify(view.outbox));
  } catch (fault) {
    view.trouble = `This browser keeps nothing (${fault.name}): leave the page open until all is saved.`;
  }
}

function receive(view, data) {
  const other = view.data && (view.data.annotator !== data.annotator || view.data.snapshot !== data.snapshot);
  const elsewhere = view.data && (view.data.dataset !== data.dataset || view.data.order !== data.order || other);
  const first = !view.data;
  view.data = data;
  if (first || other) {
    view.outbox = stored(view);
    view.outbox.forEach((one) => view.done.add(one.sample_id));
  }
  if (elsewhere) Object.assign(view, { queue: [], images: new Map(), done: new Set(), past: [], future: [], at: null });
  for (const [id, uri] of Object.entries(data.pictures)) {
    pictures.set(id, uri);
    const ahead = new Image();
    ahead.src = uri;
    ahead.decode().catch(() => pictures.delete(id)); // a picture that cannot be shown is none
  }
  settle(view, data.receipts);
  for (const image of [...data.images, ...data.history.map((one) => one.image)]) view.images.set(image.id, image);
  if (first || elsewhere) view.past = data.history.map(({ id, image, answers, none, comment }) =>
    ({ id, sample_id: image.id, answers, none, comment })).reverse();
  view.past.forEach((one) => view.done.add(one.sample_id));
  const ahead = data.images.map((image) => image.id).filter((id) => !view.done.has(id));
  view.queue = [...view.queue.filter((id) => !view.done.has(id) && ahead.includes(id)), ...ahead.filter((id) => !view.queue.includes(id))];
  if (!view.at || (!view.images.has(view.at.id) && !view.back)) show(view, view.queue[0]);
  else draw(view);
  if ((first || other) && view.outbox.length) send(view);
}

/* Forget what is stored; say what was refused, and let that image come again. */
function settle(view, receipts) {
  for (const { id, stored: isStored, reason } of receipts) {
    const one = view.outbox.find((each) => each.id === id);
    if (!one) continue;
    view.outbox = view.outbox.filter((each) => each.id !== id);
    view.acknowledged = performance.now();
    if (isStored) continue;
    view.refused = reason;
    if (!one.move) {
      view.done.delete(one.sample_id);
      view.past = view.past.filter((each) => each.id !== id);
    }
  }
  if (receipts.length) keep(view);
}

function send(view) {
  view.sentAt = Date.now();
  view.send("outbox", { count: ++view.sent, items: view.outbox });
}

function submit(view, one) {
  view.outbox.push({ stage: view.data.stage, snapshot: view.data.snapshot, sitting: view.data.sitting, ...one });
  keep(view);
  send(view);
}

/* Show an image: with the answers it had (`before`), else with those it comes with. */
function show(view, id, before = null) {
  const image = view.images.get(id);
  view.at = image ? { id, page: 0, seen: new Set([0]), since: performance.now(), spent: 0 } : null;
  if (image) {
    const given = before?.answers ?? image.preset ?? [];
    view.labels = image.labels.map((label) => ({ ...label }));
    const shown = new Set(view.labels.map((label) => label.class_id));
    for (const { class_id } of given) if (!shown.has(class_id)) view.labels.push(searched(view, class_id));
    const wanted = new Map(given.map(({ class_id, action }) => [class_id, action]));
    for (const label of view.labels) {
      const said = wanted.get(label.class_id);
      label.said = said === "yes" || said === "unsure" ? said : ""; // what is not ticked is saved as no
    }
    view.none = before?.none ?? false;
    view.comment = before?.comment ?? "";
    view.hint = "";
  }
  draw(view);
  if (view.at) document.dispatchEvent(new CustomEvent("image-shown", { detail: { id, at: performance.now() } }));
}

function searched(view, class_id) {
  const name = view.data.classes.find(([id]) => id === class_id)?.[1] ?? String(class_id);
  return { class_id, name, about: "", rank: null, examples: [], said: "" };
}

const pause = ({ at }) => at && at.since && ((at.spent += performance.now() - at.since), (at.since = 0));
const resume = ({ at }) => at && !at.since && (at.since = performance.now());

function save(view) {
  const { at, labels } = view;
  if (!at) return;
  const last = pages(view) - 1;
  for (let page = 0; page <= last; page++)
    if (!at.seen.has(page)) return turn(view, page, "Labels on this page have not been looked at yet.");
  const ticked = labels.some(({ said }) => said === "yes" || said === "unsure");
  if (!ticked && !view.none) {
    view.hint = "Nothing is ticked. Press N if none of these labels is right, or search for another one with /.";
    return draw(view);
  }
  pause(view);
  const answers = labels
    .filter(({ said, rank }) => said || rank !== null)
    .map(({ class_id, said, rank }) => ({ class_id, action: said || "no", rank }));
  const one = { id: uuid(), sample_id: at.id, answers, none: view.none, comment: view.comment.trim(), ms: Math.min(Math.round(at.spent), MAX_MS) };
  view.done.add(at.id);
  view.past.push(one);
  view.future = [];
  view.refused = "";
  view.queue = view.queue.filter((id) => id !== at.id);
  view.said = `Saved: ${answers.filter((a) => a.action === "yes").map((a) => labels.find((l) => l.class_id === a.class_id).name).join(", ") || "no label"}.`;
  show(view, view.queue[0]);
  submit(view, one);
}

function undo(view) {
  const one = view.past.pop();
  if (!one) return hint(view, "There is nothing to take back.");
  view.future.push(one);
  view.done.delete(one.sample_id);
  view.queue = [one.sample_id, ...view.queue.filter((id) => id !== one.sample_id)];
  view.said = "Taken back.";
  show(view, one.sample_id, one);
  submit(view, { id: uuid(), sample_id: one.sample_id, move: "undo", target: one.id });
}

function redo(view) {
  const one = view.future.pop();
  if (!one) return hint(view, "There is nothing to bring back.");
  view.past.push(one);
  view.done.add(one.sample_id);
  view.queue = view.queue.filter((id) => id !== one.sample_id);
  view.said = "Brought back.";
  show(view, view.queue[0]);
  submit(view, { id: uuid(), sample_id: one.sample_id, move: "redo", target: one.id });
}

function hint(view, text) {
  view.hint = text;
  draw(view);
}

function say(view, label, said) {
  label.said = said;
  if (said === "yes" || said === "unsure") view.none = false;
  view.hint = "";
  draw(view);
}

function none(view) {
  view.none = !view.none;
  if (view.none) for (const label of view.labels) label.said = "";
  hint(view, "");
}

const pages = ({ labels }) => Math.max(1, Math.ceil(labels.length / PER_PAGE));

function turn(view, page, text = "") {
  view.at.page = Math.min(Math.max(page, 0), pages(view) - 1);
  view.at.seen.add(view.at.page);
  hint(view, text);
}

function key(view, event) {
  if (!view.box.isConnected || event.isComposing) return;
  const inside = event.composedPath()[0];
  const typing = inside?.matches?.("input, textarea, select, [contenteditable]");
  if (typing && !view.box.contains(inside)) return;
  const control = event.ctrlKey || event.metaKey;
  let act = null;
  if (typing) {
    if (event.key === "Escape") act = () => inside.blur();
    else if (event.key === "Enter" && inside === view.search) act = () => add(view);
    else if (event.key === "Enter" && control) act = () => (inside.blur(), save(view));
    else return event.stopPropagation(); // what is typed is no shortcut of the page
  } else if (control) {
    const letter = event.key.toLowerCase();
    if (letter === "z") act = () => (event.shiftKey ? redo(view) : undo(view));
    else if (letter === "y") act = () => redo(view);
  } else if (!event.altKey && view.at) {
    const digit = /^(Digit|Numpad)(\d)$/.exec(event.code)?.[2];
    if (digit !== undefined) {
      const label = view.labels[view.at.page * PER_PAGE + ((Number(digit) + 9) % 10)];
      if (label && (Number(digit) + 9) % 10 < PER_PAGE)
        act = () => say(view, label, event.shiftKey ? (label.said === "no" ? "" : "no") : NEXT[label.said]);
    } else {
      const presses = inside?.matches?.("button") && inside !== document.body;
      act = {
        Enter: presses && view.box.contains(inside) && inside.classList.contains("press") ? null : () => save(view),
        ArrowRight: () => turn(view, view.at.page + 1),
        ArrowLeft: () => turn(view, view.at.page - 1),
        n: () => none(view),
        N: () => none(view),
        u: () => undo(view),
        y: () => redo(view),
        c: () => view.note.focus(),
        "/": () => view.search.focus(),
      }[event.key];
    }
  } else if (!event.altKey && (event.key === "u" || event.key === "y")) {
    act = () => (event.key === "u" ? undo(view) : redo(view));
  }
  if (!act) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  act();
}

/* Add the class that is searched for, as a yes. */
function add(view) {
  const text = view.search.value.trim().toLowerCase();
  const exact = view.data.classes.find(([, name]) => name.toLowerCase() === text);
  const found = exact ?? (text && view.data.classes.find(([, name]) => name.toLowerCase().includes(text)));
  if (!found) return hint(view, text ? "No class has that in its name." : "");
  let label = view.labels.find((each) => each.class_id === found[0]);
  if (!label) view.labels.push((label = searched(view, found[0])));
  view.search.value = "";
  view.search.blur();
  view.at.page = Math.floor(view.labels.indexOf(label) / PER_PAGE);
  view.at.seen.add(view.at.page);
  say(view, label, "yes");
}

function picture(id, alt, name, parent) {
  const uri = pictures.get(id);
  if (!uri) return element("div", `${name} blank`, parent, alt);
  const made = element("img", name, parent);
  made.src = uri;
  made.alt = alt;
  return made;
}

function draw(view) {
  const { box, data, at } = view, active = view.box.getRootNode().activeElement;
  const typed = active === view.search ? ["search", view.search.value] : active === view.note ? ["note", view.note.value] : null;
  box.replaceChildren();
  bar(view);
  if (!at) {
    element("p", "end", box, data.end);
    return;
  }
  const image = view.images.get(at.id);
  const desk = element("div", "desk", box);
  const left = element("div", "left", desk);
  picture(at.id, `image ${at.id}`, "large", left).dataset.id = at.id;
  element("div", "id", left, at.id);
  view.note = element("textarea", "note", left);
  Object.assign(view.note, { value: view.comment, placeholder: "Comment (C)", maxLength: 1000, rows: 2 });
  view.note.setAttribute("aria-label", "Comment");
  view.note.addEventListener("input", () => (view.comment = view.note.value));
  const right = element("div", "right", desk);
  const cards = element("div", "cards", right);
  const from = at.page * PER_PAGE;
  view.labels.slice(from, from + PER_PAGE).forEach((label, i) => card(view, cards, image, label, (i + 1) % 10));
  actions(view, right);
  if (typed) {
    const again = view[typed[0]];
    again.value = typed[1];
    again.focus();
  }
}

function card(view, parent, image, label, digit) {
  const made = element("div", `card ${label.said || "open"}`, parent);
  const top = element("div", "top", made);
  element("kbd", "", top, String(digit));
  element("span", "name", top, label.name);
  element("span", "said", top, SAID[label.said]);
  if (label.about) element("div", "about", made, label.about);
  const row = element("div", "examples", made);
  for (const id of label.examples) picture(id, `example of ${label.name}`, "example", row);
  if (label.rank === null) element("div", "about", row, "searched for");
  for (const [who, said] of label.notes ?? []) element("div", "who", made, `${who}: ${said}`);
  const three = element("div", "three", made);
  three.setAttribute("role", "group");
  three.setAttribute("aria-label", label.name);
  for (const said of ["yes", "no", "unsure"]) {
    const one = button(`press ${said}`, three, SAID[said], "", () => say(view, label, label.said === said ? "" : said));
    one.setAttribute("aria-pressed", String(label.said === said));
    one.setAttribute("aria-label", `${SAID[said]}: ${label.name}`);
  }
}

function actions(view, parent) {
  const { data, at } = view;
  if (view.hint) element("div", "hint", parent, view.hint).setAttribute("role", "alert");
  const row = element("div", "actions", parent);
  const no = button(`press wide ${view.none ? "on" : ""}`, row, "None of these (N)", "No label here is right", () => none(view));
  no.setAttribute("aria-pressed", String(view.none));
  view.search = element("input", "search", row);
  Object.assign(view.search, { type: "search", placeholder: "Another class (/)", autocomplete: "off" });
  view.search.setAttribute("aria-label", "Search for another class");
  view.search.setAttribute("list", "classes");
  const list = element("datalist", "", row);
  list.id = "classes";
  const few = data.classes.slice(0, 1000);
  for (const [, name] of few) element("option", "", list).value = name;
  view.search.addEventListener("change", () => view.search.value && add(view));
  if (pages(view) > 1) {
    button("press wide", row, "←", "Labels before (left arrow)", () => turn(view, at.page - 1)).disabled = at.page === 0;
    element("span", "count", row, `${at.page + 1} of ${pages(view)}`);
    button("press wide", row, "→", "Further labels (right arrow)", () => turn(view, at.page + 1)).disabled = at.page + 1 === pages(view);
  }
  button("press wide main", row, "Save (Enter)", "What is shown and not ticked is saved as no", () => save(view));
  const keys = "1–9, 0: yes, again: unsure · Shift+digit: no · N: none · /: another class · C: comment · Enter: save · U: undo · Y: redo";
  element("div", "help", parent, pages(view) > 1 ? `${keys} · ←→: pages` : keys);
}

function minutes(ms) {
  const all = Math.round(ms / 60000);
  return all < 1 ? "less than a minute" : all < 90 ? `${all} min` : `${(all / 60).toFixed(1)} h`;
}

function bar(view) {
  const { data, box } = view;
  const made = element("div", "bar", box);
  const waiting = view.outbox.filter((one) => !one.move && view.past.some((each) => each.id === one.id)).length;
  const done = data.progress.done + waiting;
  element("span", "progress", made, `${done.toLocaleString("en")} image${done === 1 ? "" : "s"} ${data.progress.words}`);
  const meter = element("progress", "", made);
  meter.max = Math.max(data.progress.complete + data.progress.left, 1);
  meter.value = data.progress.complete;
  meter.setAttribute("aria-label", "images that are complete");
  const left = Math.max(data.progress.left - waiting, 0);
  const time = data.pace_ms && left ? `, about ${minutes(data.pace_ms * left)}` : "";
  element("span", "left-over", made, `${data.progress.complete.toLocaleString("en")} of ${data.progress.of.toLocaleString("en")} complete; ${left.toLocaleString("en")} left for you${time}`);
  button("press", made, "Undo (U)", "Take back what was saved last", () => undo(view)).disabled = !view.past.length;
  button("press", made, "Redo (Y)", "Bring back what was taken back", () => redo(view)).disabled = !view.future.length;
  const state = element("span", "state", made, view.outbox.length ? `Saving ${view.outbox.length} …` : view.said ?? "");
  state.setAttribute("role", "status");
  const trouble = view.refused ? `Not saved: ${view.refused}.` : data.trouble || view.trouble || "";
  if (trouble) {
    const line = element("div", "trouble", box, trouble);
    line.setAttribute("role", "alert");
    button("press", line, "Reload", "", () => location.reload());
  }
}
