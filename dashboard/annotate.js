/* Annotating by keyboard: one image and the labels proposed for it; the next images are here before they are needed.

data: what dashboard/annotate.py sends. What is saved goes into an outbox, which this browser keeps, a key a submission,
until the server says of it that it is stored: a lost reply, a second tab or a restarted server loses nothing, and ids
keep it from being stored twice. All text is data: it reaches the page as text alone. */

const PER_PAGE = 10, AT_ONCE = 100, RETRY_MS = 5000, LONGEST_RETRY_MS = 20000, AT_WORK_MS = 60000, ASK_MS = 20000, MAX_MS = 600000, SMALL = 96, FOUND = 40;
const NEXT = { "": "yes", yes: "unsure", unsure: "", no: "" };
const SAID = { yes: "Yes", unsure: "Unsure", no: "No", "": "" };

/* What the server sent lives as long as the tab, whichever page is open: it sends everything once. */
const stock = (window.secondLook ??= { pictures: new Map(), images: new Map(), classes: new Map() });

export default function ({ data, parentElement, setStateValue }) {
  const view = (parentElement.view ??= create(parentElement));
  view.write = setStateValue;
  if (view.data !== data) receive(view, data);
  return () => setTimeout(() => view.box.isConnected || close(view)); // also called where the page only changed
}

function element(tag, name, parent, text = "", more = {}) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  for (const [attribute, value] of Object.entries(more)) made.setAttribute(attribute, value);
  parent?.appendChild(made);
  return made;
}

function button(name, parent, text, hint, act, more = {}) {
  const made = element("button", name, parent, text, { type: "button", ...more });
  if (hint) made.title = hint;
  made.addEventListener("mousedown", (event) => { // a click takes no focus: Enter goes on doing what it does
    event.preventDefault();
    (made.getRootNode().activeElement ?? document.activeElement)?.blur();
  });
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

const tell = (view, name, detail) => view.box.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));

// What is there once, and stays where it is

function create(parent) {
  const box = element("div", "box", parent);
  const view = { box, queue: [], done: new Set(), past: [], future: [], outbox: [], refused: [], count: 0, tries: 0, sentAt: 0, patience: 0.8 + 0.4 * Math.random() };
  const bar = element("div", "bar", box);
  view.progress = element("span", "progress", bar);
  view.meter = element("progress", "", bar, "", { "aria-label": "images that are complete" });
  view.left = element("span", "faint", bar);
  view.state = element("span", "state faint", bar, "", { role: "status" });
  view.undo = button("press", bar, "Undo", "Take back what was saved last (U)", () => undo(view));
  view.redo = button("press", bar, "Redo", "Bring back what was taken back (Y)", () => redo(view));
  view.troubles = element("div", "", box);
  view.end = element("p", "end", box);
  view.desk = element("div", "desk", box);
  const left = element("div", "left", view.desk);
  view.frame = element("div", "frame", left);
  view.caption = element("div", "caption faint", left);
  view.note = element("textarea", "field note", left, "", { placeholder: "Comment (C)", maxlength: 1000, rows: 2, "aria-label": "Comment" });
  view.note.addEventListener("input", () => (view.comment = view.note.value));
  const right = element("div", "right", view.desk);
  view.cards = element("div", "cards", right);
  view.hint = element("div", "hint", right, "", { role: "alert" });
  const actions = element("div", "actions", right);
  view.none = button("press wide", actions, "", "No label here is right (N)", () => none(view));
  element("kbd", "", view.none, "N");
  view.none.append("None of these");
  finder(view, actions);
  view.turns = element("span", "turns", actions);
  view.before = button("press wide", view.turns, "←", "Labels before (left arrow)", () => turn(view, view.at.page - 1), { "aria-label": "Labels before" });
  view.place = element("span", "faint", view.turns);
  view.after = button("press wide", view.turns, "→", "Further labels (right arrow)", () => turn(view, view.at.page + 1), { "aria-label": "Further labels" });
  view.enter = button("press wide main", actions, "", "What is not ticked is saved as no (Enter)", () => save(view));
  element("kbd", "", view.enter, "⏎");
  view.enter.append("Save");
  help(element("div", "help faint", right));

  const clicked = (event) => event.detail && setTimeout(release); // by mouse; keys that press a button keep it
  release();
  const keys = (event) => key(view, event);
  const hidden = () => (document.hidden ? pause(view) : resume(view));
  const again = () => waiting(view).length && send(view);
  window.addEventListener("keydown", keys, true);
  window.addEventListener("click", clicked, true);
  document.addEventListener("visibilitychange", hidden);
  window.addEventListener("online", again);
  const timer = setInterval(() => retry(view), 500);
  view.close = () => {
    window.removeEventListener("keydown", keys, true);
    window.removeEventListener("click", clicked, true);
    document.removeEventListener("visibilitychange", hidden);
    window.removeEventListener("online", again);
    clearInterval(timer);
  };
  return view;
}

const close = (view) => view.close();

/* What has had its click needs the focus no more: Enter belongs to the desk again. */
function release() {
  const inside = document.activeElement;
  if (inside?.matches?.("a, button, [role=radio], [role=combobox][aria-expanded=false]") && !inside.closest("[role=dialog]")) inside.blur();
}

function help(parent) {
  const keys = [["1–9, 0", "yes, again: unsure"], ["⇧ digit", "no"], ["N", "none"], ["/", "another class"], ["← →", "pages"],
    ["C", "comment"], ["⏎", "save"], ["U", "undo"], ["Y", "redo"]];
  for (const [name, about] of keys) {
    const one = element("span", "", parent);
    element("kbd", "", one, name);
    one.append(about);
  }
}

/* A field that finds a class by parts of its name; Enter takes the one that is marked. */
function finder(view, parent) {
  const holder = element("div", "finder", parent);
  const field = (view.search = element("input", "field search", holder, "", { type: "text", placeholder: "Another class (/)",
    autocomplete: "off", spellcheck: "false", role: "combobox", "aria-label": "Search for another class", "aria-expanded": "false",
    "aria-controls": "found", "aria-autocomplete": "list" }));
  const list = element("ul", "found", holder, "", { id: "found", role: "listbox", "aria-label": "Classes" });
  list.hidden = true;
  view.finding = { list, found: [], at: 0 };
  field.addEventListener("input", () => find(view));
  field.addEventListener("focus", () => find(view));
  field.addEventListener("blur", () => shut(view));
  list.addEventListener("mousedown", (event) => {
    event.preventDefault();
    const at = [...list.children].indexOf(event.target.closest("li"));
    if (at >= 0) take(view, view.finding.found[at]);
  });
}

function find(view) {
  const text = view.search.value.trim().toLowerCase();
  const rank = (name) => (name === text ? 0 : name.startsWith(text) ? 1 : name.includes(` ${text}`) ? 2 : name.includes(text) ? 3 : 4);
  const ranked = text ? view.classes.map((one) => [rank(one[1].toLowerCase()), one]).filter(([place]) => place < 4) : [];
  ranked.sort((a, b) => a[0] - b[0] || a[1][0] - b[1][0]);
  Object.assign(view.finding, { found: ranked.slice(0, FOUND).map(([, one]) => one), at: 0, more: ranked.length - FOUND });
  const { list, found, more } = view.finding;
  list.replaceChildren();
  found.forEach(([class_id, name], i) => element("li", "", list, name, { role: "option", id: `found-${i}`, "aria-selected": String(i === 0) }));
  if (more > 0) element("li", "faint", list, `and ${more.toLocaleString("en")} more`, { "aria-hidden": "true" });
  if (text && !found.length) element("li", "faint", list, "No class has that in its name.", { "aria-hidden": "true" });
  list.hidden = !text;
  mark(view, 0);
}

function mark(view, to) {
  const { list, found } = view.finding;
  view.finding.at = found.length ? (to + found.length) % found.length : 0;
  [...list.children].forEach((row, i) => row.setAttribute("aria-selected", String(i === view.finding.at && found.length > 0)));
  list.children[view.finding.at]?.scrollIntoView?.({ block: "nearest" });
  view.search.setAttribute("aria-expanded", String(!list.hidden));
  if (found.length && !list.hidden) view.search.setAttribute("aria-activedescendant", `found-${view.finding.at}`);
  else view.search.removeAttribute("aria-activedescendant");
}

function shut(view) {
  view.search.value = "";
  view.finding.list.hidden = true;
  view.search.setAttribute("aria-expanded", "false");
}

/* Tick a class that was searched for: on its card where it is shown, else on one of its own. */
function take(view, one) {
  view.search.blur();
  if (!one || !view.at) return;
  let label = view.labels.find((each) => each.class_id === one[0]);
  if (!label) view.labels.push((label = searched(view, one[0])));
  view.at.page = Math.floor(view.labels.indexOf(label) / PER_PAGE);
  view.at.seen.add(view.at.page);
  lay(view);
  say(view, label, "yes");
}

function searched(view, class_id) {
  const name = view.classes.find(([id]) => id === class_id)?.[1] ?? String(class_id);
  return { class_id, name, about: "", rank: null, examples: [], notes: [], said: "" };
}

// What is saved, until the server has it

const shelf = ({ data }) => `second-look:${data.database}:${data.annotator}:`;
const waiting = ({ outbox }) => outbox.map(({ one }) => one);

function read(view) {
  const held = [];
  try {
    for (let i = 0; i < localStorage.length; i++) {
      const name = localStorage.key(i);
      if (!name.startsWith(shelf(view))) continue;
      try {
        const entry = JSON.parse(localStorage.getItem(name));
        if (name === shelf(view) + entry?.one?.id) held.push(entry); // another's name may begin with this one and a colon
      } catch {
        continue; // nothing that this page wrote
      }
    }
  } catch (fault) {
    view.keepsNothing = fault.name;
  }
  held.sort((a, b) => a.made - b.made);
  view.outbox = held.filter((entry) => !entry.refused);
  view.refused = held.filter((entry) => entry.refused);
}

function keep(view, entry) {
  try {
    localStorage.setItem(shelf(view) + entry.one.id, JSON.stringify(entry));
  } catch (fault) {
    view.keepsNothing = fault.name;
  }
}

function drop(view, entry) {
  try {
    localStorage.removeItem(shelf(view) + entry.one.id);
  } catch (fault) {
    view.keepsNothing = fault.name;
  }
}

let last = 0;

function submit(view, answered) {
  const { stage, snapshot, sitting } = view.data;
  last = Math.max(Date.now(), last + 1);
  const entry = { made: last, one: { stage, snapshot, sitting, ...answered } };
  view.outbox.push(entry);
  keep(view, entry);
  view.tries = 0;
  send(view);
}

function send(view) {
  view.sentAt = Date.now();
  view.tries += 1;
  view.write("outbox", { count: ++view.count, seen: view.seen ?? -1, lacking: view.lacking ?? false, items: waiting(view).slice(0, AT_ONCE) });
}

/* Whether the server is at work for this page: its answer is on its way, and asking again would only delay it. */
function atWork() {
  const { testConnectionState: connection, testScriptState: script } = document.querySelector("[data-testid=stApp]")?.dataset ?? {};
  return connection === "CONNECTED" && (script === "running" || script === "rerunRequested");
}

/* What is not acknowledged is sent again, ever less often and by no two pages in step, by a run of the whole page, to
which belongs what was sent before: a server that was started anew knows nothing of this part of it. */
function retry(view) {
  if (!view.box.isConnected) return;
  const wait = atWork() ? AT_WORK_MS : view.patience * Math.min(RETRY_MS * 2 ** Math.max(view.tries - 1, 0), LONGEST_RETRY_MS);
  const idle = !view.at && !view.outbox.length && view.data?.progress.left > 0; // others may leave some
  if (idle && Date.now() - view.sentAt > ASK_MS) return send(view);
  if ((!view.outbox.length && !view.lacking) || Date.now() - view.sentAt < wait) return;
  if (window.secondLookAgain) {
    view.sentAt = Date.now();
    view.tries += 1;
    window.secondLookAgain();
  } else send(view);
  bar(view);
}

// What the server says

function receive(view, data) {
  const first = !view.data || view.data.annotator !== data.annotator || view.data.database !== data.database;
  const restart = view.data?.about !== data.about, reconnected = view.data && view.data.session !== data.session;
  view.data = data;
  for (const [id, uri] of Object.entries(data.pictures)) stock.pictures.set(id, uri);
  for (const image of data.images) stock.images.set(`${data.about} ${image.id}`, image);
  if (data.classes) stock.classes.set(data.classes_of, data.classes);
  view.classes = stock.classes.get(data.classes_of) ?? [];
  if (first) read(view);
  const acknowledged = settle(view, data.receipts);
  if (restart) {
    release();
    Object.assign(view, { queue: [], done: new Set(), past: [], future: [], at: null, seen: -1 });
    for (const one of waiting(view)) if (one.stage === data.stage && !one.move) view.done.add(one.sample_id);
    for (const said of data.history ?? []) {
      if (!said.undone) view.past.unshift(said);
      else if (!view.past.length) view.future.push(said);
    }
    view.past.forEach((one) => view.done.add(one.sample_id));
  }
  const whole = data.ahead.every((id) => ready(view, id)) && view.classes.length && (data.history || !restart);
  if (whole) view.seen = data.seq;
  const missed = !whole && !view.lacking;
  view.lacking = !whole;
  if (whole && !view.outbox.length) view.tries = 0;
  const ahead = data.ahead.filter((id) => !view.done.has(id) && ready(view, id));
  view.queue = [...view.queue.filter((id) => ahead.includes(id)), ...ahead.filter((id) => !view.queue.includes(id))];
  if (view.back && !view.queue.includes(view.back) && !view.done.has(view.back)) view.queue.unshift(view.back);
  if (restart && view.future.length && image(view, view.future.at(-1).sample_id)) show(view, view.future.at(-1).sample_id, view.future.at(-1));
  else if (!view.at) show(view, view.queue[0]);
  prepare(view);
  bar(view);
  if (missed || ((first || reconnected || acknowledged) && view.outbox.length)) send(view);
}

const image = (view, id) => stock.images.get(`${view.data.about} ${id}`);

/* Whether an image is here, and every picture that is shown with it. */
function ready(view, id) {
  const found = image(view, id);
  return Boolean(found) && [...(found.picture ? [found.picture] : []), ...found.labels.flatMap((label) => label.examples)]
    .every((one) => stock.pictures.has(one));
}

/* Forget what is stored; say what was refused, and let that image come again. True where something was acknowledged and
more waits. */
function settle(view, receipts) {
  let some = false;
  for (const { id, stored, reason } of receipts) {
    const entry = view.outbox.find(({ one }) => one.id === id);
    if (!entry) continue;
    some = true;
    view.tries = 0;
    view.outbox = view.outbox.filter((each) => each !== entry);
    if (stored) {
      drop(view, entry);
      tell(view, "answer-stored", { id });
      continue;
    }
    entry.refused = reason;
    keep(view, entry);
    view.refused.push(entry);
    if (!entry.one.move) {
      view.done.delete(entry.one.sample_id);
      view.past = view.past.filter((each) => each.id !== id);
    }
  }
  return some && view.outbox.length >= AT_ONCE;
}

// The image that is shown, and what is said of it

/* The pictures of the next images as elements that are decoded: the frame after Enter shows them. */
function prepare(view) {
  for (const id of [view.at?.id, ...view.queue.slice(0, 3)]) {
    const found = id && image(view, id);
    if (!found || found.elements || !ready(view, id)) continue;
    found.elements = {
      large: found.picture && picture(found.picture, "the image to annotate", "large"),
      examples: found.labels.map((label) => label.examples.map((one) => picture(one, `example of ${label.name}`, "example"))),
    };
  }
}

function picture(id, alt, name) {
  const made = element("img", name, null, "", { alt, decoding: "sync" });
  made.src = stock.pictures.get(id);
  made.decode().then(() => made.classList.toggle("crisp", Math.max(made.naturalWidth, made.naturalHeight) <= SMALL),
    () => made.replaceWith(element("div", `${name} blank`, null, "This picture cannot be shown.")));
  return made;
}

/* Show an image: with the answers it had (`before`), else with those it comes with. */
function show(view, id, before = null) {
  const found = id && image(view, id);
  view.at = found ? { id, page: 0, seen: new Set([0]), since: document.hidden ? 0 : performance.now(), spent: 0 } : null;
  view.back = before ? id : null;
  view.text = "";
  view.desk.hidden = !found;
  if (!found) return bar(view);
  prepare(view);
  const given = before?.answers ?? found.preset ?? [];
  view.labels = found.labels.map((label, i) => ({ ...label, said: "", elements: found.elements?.examples[i] ?? [] }));
  const shown = new Set(view.labels.map((label) => label.class_id));
  for (const { class_id } of given) if (!shown.has(class_id)) view.labels.push(searched(view, class_id));
  const wanted = new Map(given.map(({ class_id, action }) => [class_id, action]));
  for (const label of view.labels) {
    const said = wanted.get(label.class_id);
    label.said = said === "yes" || said === "unsure" ? said : ""; // what is not ticked is saved as no
  }
  view.isNone = before?.none ?? false;
  view.comment = view.note.value = before?.comment ?? "";
  view.frame.replaceChildren(found.elements?.large || element("div", "large blank", null, `This set comes without pictures. ${id}`));
  view.caption.textContent = found.caption ?? "";
  lay(view);
  bar(view);
  tell(view, "image-shown", { id });
}

const pause = ({ at }) => at?.since && ((at.spent += performance.now() - at.since), (at.since = 0));
const resume = ({ at }) => at && !at.since && (at.since = performance.now());
const pages = ({ labels }) => Math.max(1, Math.ceil(labels.length / PER_PAGE));

/* The cards of the page of labels that is shown. */
function lay(view) {
  const from = view.at.page * PER_PAGE;
  view.cards.replaceChildren();
  view.labels.slice(from, from + PER_PAGE).forEach((label, i) => card(view, label, (i + 1) % 10));
  paint(view);
}

function card(view, label, digit) {
  const made = (label.card = element("div", "card", view.cards, "", { role: "group", "aria-label": label.name }));
  made.addEventListener("click", (event) => event.target.closest("button") || say(view, label, NEXT[label.said]));
  const top = element("div", "top", made);
  element("kbd", "", top, String(digit));
  element("span", "name", top, label.name);
  if (label.about) element("div", "about faint", made, label.about).title = label.about;
  if (label.rank === null) element("div", "faint", made, "searched for");
  if (label.elements?.length) element("div", "examples", made).append(...label.elements);
  for (const [who, said] of label.notes ?? []) element("div", "faint", made, `${who}: ${said}`);
  const three = element("div", "three", made);
  label.buttons = ["yes", "unsure", "no"].map((said) =>
    button(`press ${said}`, three, SAID[said], "", () => say(view, label, label.said === said ? "" : said), { "aria-label": `${SAID[said]}: ${label.name}` }));
}

/* What may have changed on the cards and below them. */
function paint(view) {
  const { at, labels } = view;
  for (const label of labels) {
    if (!label.card) continue;
    label.card.className = `card ${label.said || "open"}`;
    ["yes", "unsure", "no"].forEach((said, i) => label.buttons[i].setAttribute("aria-pressed", String(label.said === said)));
  }
  view.none.setAttribute("aria-pressed", String(view.isNone));
  view.hint.textContent = view.text;
  view.hint.hidden = !view.text;
  const n = pages(view);
  view.turns.hidden = n < 2;
  view.place.textContent = `${at.page + 1} of ${n}`;
  view.before.disabled = at.page === 0;
  view.after.disabled = at.page + 1 === n;
}

function hint(view, text) {
  view.text = text;
  if (view.at) paint(view);
  else view.said = text;
  bar(view);
}

function say(view, label, said) {
  label.said = said;
  if (said === "yes" || said === "unsure") view.isNone = false;
  view.text = "";
  paint(view);
}

function none(view) {
  if (!view.at) return;
  view.isNone = !view.isNone;
  if (view.isNone) for (const label of view.labels) label.said = "";
  view.text = "";
  paint(view);
}

function turn(view, page, text = "") {
  view.at.page = Math.min(Math.max(page, 0), pages(view) - 1);
  view.at.seen.add(view.at.page);
  view.text = text;
  lay(view);
}

/* Labels that were not looked at are never saved as no: Enter leads to them first. */
function save(view) {
  const { at, labels } = view;
  if (!at) return;
  for (let page = 0; page < pages(view); page++)
    if (!at.seen.has(page)) return turn(view, page, "More labels: Enter saves when all have been looked at.");
  const ticked = labels.filter(({ said }) => said === "yes" || said === "unsure");
  const isNone = view.isNone || (!ticked.length && labels.length > 0 && labels.every(({ said }) => said === "no"));
  if (!ticked.length && !isNone) return hint(view, "Nothing is ticked. Press N if none of these labels is right, or / to search for another one.");
  pause(view);
  const answers = labels.filter(({ said, rank }) => said || rank !== null).map(({ class_id, said, rank }) => ({ class_id, action: said || "no", rank }));
  const comment = [...view.comment.replaceAll("\0", "").trim()].map((c) => (/^[\ud800-\udfff]$/.test(c) ? "\ufffd" : c)).join("");
  const one = { id: uuid(), sample_id: at.id, answers, none: isNone, comment, ms: Math.min(Math.round(at.spent), MAX_MS) };
  view.done.add(at.id);
  view.past.push(one);
  view.future = [];
  view.queue = view.queue.filter((id) => id !== at.id);
  view.said = `Saved: ${ticked.map(({ name, said }) => (said === "yes" ? name : `${name} (unsure)`)).join(", ") || "none of these"}`;
  view.note.blur();
  show(view, view.queue[0]);
  submit(view, one);
  bar(view);
  setTimeout(() => prepare(view));
}

function undo(view) {
  const one = view.past.at(-1);
  if (!one) return hint(view, "There is nothing to take back.");
  if (!image(view, one.sample_id)) return hint(view, "The image before is not here any more: reload the page to take it back.");
  view.past.pop();
  view.future.push(one);
  view.done.delete(one.sample_id);
  view.queue = [one.sample_id, ...view.queue.filter((id) => id !== one.sample_id)];
  view.said = "Taken back";
  show(view, one.sample_id, one);
  submit(view, { id: uuid(), sample_id: one.sample_id, move: "undo", target: one.id });
  bar(view);
}

function redo(view) {
  const one = view.future.pop();
  if (!one) return hint(view, "There is nothing to bring back.");
  view.past.push(one);
  view.done.add(one.sample_id);
  view.queue = view.queue.filter((id) => id !== one.sample_id);
  view.said = "Brought back";
  const next = view.future.at(-1);
  if (next && image(view, next.sample_id)) show(view, next.sample_id, next);
  else show(view, view.queue[0]);
  submit(view, { id: uuid(), sample_id: one.sample_id, move: "redo", target: one.id });
  bar(view);
}

// Keys

const EDITS = "input, textarea, select, [contenteditable]:not([contenteditable=false])";
const ACTS = "a[href], button, summary, [role=button], [role=tab], [role=option], [role=combobox], [role=slider], [role=radio]";

function key(view, event) {
  if (!view.box.isConnected || !view.box.getClientRects().length || event.isComposing) return;
  const inside = event.composedPath()[0], own = view.box.contains(inside), is = (what) => inside?.matches?.(what);
  if (!own && (is(EDITS) || inside?.closest?.("[role=dialog], [role=listbox], [role=menu]"))) return;
  const act = is(EDITS) ? typed(view, event, inside) : pressed(view, event, own, is(ACTS));
  if (!act) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!event.repeat || act.repeats) act();
}

/* Keys in the fields of this page. What is typed is no shortcut of anything around it. */
function typed(view, event, field) {
  event.stopPropagation();
  if (field === view.search) {
    const { at, found } = view.finding, step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) return Object.assign(() => mark(view, at + step), { repeats: true });
    if (event.key === "Enter") return () => (found.length ? take(view, found[at]) : view.search.value.trim() || field.blur());
  }
  if (event.key === "Escape") return () => field.blur();
  if (field === view.note && event.key === "Enter" && !event.shiftKey) return () => (event.ctrlKey || event.metaKey ? save(view) : field.blur());
  return null;
}

function pressed(view, event, own, acts) {
  const control = event.ctrlKey || event.metaKey;
  // letters are told by what is written on them, or by where they are where another script is written
  const letter = /^[\x20-\x7e]$/.test(event.key) ? event.key.toLowerCase() : /^Key[A-Z]$/.test(event.code) ? event.code[3].toLowerCase() : event.key;
  if (event.altKey) return null;
  if (control) {
    if (letter === "z") return event.shiftKey ? () => redo(view) : () => undo(view);
    return letter === "y" ? () => redo(view) : null;
  }
  if (letter === "u") return () => undo(view);
  if (letter === "y") return () => redo(view);
  if (!view.at) return null;
  if (letter === "/") return () => view.search.focus();
  const code = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1], digit = /^\d$/.test(event.key) ? event.key : code;
  if (digit !== undefined) {
    const label = view.labels[view.at.page * PER_PAGE + ((Number(digit) + 9) % 10)];
    const no = event.shiftKey && !/^\d$/.test(event.key);
    return label ? () => say(view, label, no ? (label.said === "no" ? "" : "no") : NEXT[label.said]) : null;
  }
  if (event.key === "Enter") return acts ? null : () => save(view); // a button that has the focus does what it says
  if (event.key.startsWith("Arrow") && acts && !own) return null;
  return {
    ArrowRight: pages(view) > 1 ? () => turn(view, view.at.page + 1) : null,
    ArrowLeft: pages(view) > 1 ? () => turn(view, view.at.page - 1) : null,
    n: () => none(view),
    c: () => view.note.focus(),
  }[letter];
}

// How far one is

function minutes(ms) {
  const all = Math.round(ms / 60000);
  return all < 1 ? "less than a minute" : all < 90 ? `about ${all} min` : `about ${(all / 60).toFixed(1)} h`;
}

function bar(view) {
  const { data } = view, n = (number) => number.toLocaleString("en");
  const { done, complete, of, left, words } = data.progress;
  const own = view.past.filter(({ id }) => view.outbox.some(({ one }) => one.id === id)).length;
  const mine = done + own, rest = Math.max(left - own, 0);
  view.progress.textContent = `${n(mine)} ${words}`;
  view.meter.max = Math.max(of, 1);
  view.meter.value = complete;
  const time = data.pace_ms && rest ? `, ${minutes(data.pace_ms * rest)}` : "";
  view.left.textContent = `${n(complete)} of ${n(of)} complete · ${n(rest)} left for you${time}`;
  view.undo.disabled = !view.past.length;
  view.redo.disabled = !view.future.length;
  const late = view.outbox.length && view.tries > 1;
  const state = late ? `${n(view.outbox.length)} not stored yet` : view.outbox.length ? "Saving …" : view.said ?? "";
  if (view.state.textContent !== state) view.state.textContent = state;
  view.end.hidden = Boolean(view.at);
  if (!view.at) view.end.textContent = rest > 0 && (view.outbox.length || view.lacking) ? "The next images are on their way …" : data.end;
  troubles(view);
}

function troubles(view) {
  const lines = [];
  const reasons = [...new Set(view.refused.map(({ refused }) => refused))];
  for (const reason of reasons) {
    const these = view.refused.filter(({ refused }) => refused === reason);
    const forget = () => {
      these.forEach((entry) => drop(view, entry));
      view.refused = view.refused.filter(({ refused }) => refused !== reason);
      bar(view);
    };
    lines.push([`Not saved, ${these.length === 1 ? "one answer" : `${these.length} answers`}: ${reason}.`, [["Reload", () => location.reload()], ["Dismiss", forget]]]);
  }
  if (view.data.trouble) lines.push([view.data.trouble, [["Reload", () => location.reload()]]]);
  if (view.outbox.length && view.tries > 2) lines.push(["The server does not answer. What you save is kept in this browser, and sent when it does.", []]);
  if (view.keepsNothing) lines.push([`This browser keeps nothing (${view.keepsNothing}): leave the page open until all is saved.`, []]);
  const now = JSON.stringify(lines.map(([text]) => text));
  if (now === view.troubled) return;
  view.troubled = now;
  view.troubles.replaceChildren();
  for (const [text, buttons] of lines) {
    const line = element("div", "trouble", view.troubles, "", { role: "alert" });
    element("span", "", line, text);
    for (const [name, act] of buttons) button("press", line, name, "", act);
  }
}
