/* Accuracy of models with intervals, best first, on a canvas that stays where it is when the data change.

data: what dashboard/ranked.py sends. Up to data.most models have a row with their name each; more stand side by side,
and name themselves where one points. Names are data: they reach the page as text alone. After each drawing the event
`drawn` tells the number of images that the figure is of. */

const SIDE = 12, TOP = 8, BOTTOM = 46, LEFT = 62, HEIGHT = 380;

export default function ({ data, parentElement }) {
  const figure = (parentElement.figure ??= create(parentElement));
  figure.data = data;
  head(figure);
  draw(figure);
  return () => figure.observer.disconnect();
}

function element(tag, name, parent, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  parent.appendChild(made);
  return made;
}

function create(parent) {
  const box = element("div", "box", parent);
  const figure = { box, title: element("div", "title", box), legend: element("div", "legend", box), at: -1 };
  const canvas = (figure.canvas = element("canvas", "", box));
  canvas.setAttribute("role", "img");
  canvas.tabIndex = 0;
  figure.tip = element("div", "tip", box);
  figure.tip.setAttribute("role", "status");
  figure.tip.hidden = true;
  canvas.addEventListener("pointermove", (event) => point(figure, nearest(figure, event.offsetX, event.offsetY)));
  canvas.addEventListener("pointerleave", () => point(figure, -1));
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && point(figure, 0));
  canvas.addEventListener("blur", () => point(figure, -1));
  canvas.addEventListener("keydown", (event) => {
    const last = figure.data.names.length - 1;
    const to = { ArrowDown: figure.at + 1, ArrowRight: figure.at + 1, ArrowUp: figure.at - 1, ArrowLeft: figure.at - 1 };
    const next = { ...to, Home: 0, End: last, Escape: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    point(figure, event.key === "Escape" ? -1 : Math.min(Math.max(next, 0), last));
  });
  figure.observer = new ResizeObserver(() => box.clientWidth !== figure.width && draw(figure));
  figure.observer.observe(box);
  return figure;
}

function head({ box, canvas, data, title, legend }) {
  title.textContent = data.title;
  canvas.setAttribute("aria-label", data.alt);
  legend.replaceChildren();
  for (const [name, colour, mark] of [...data.families.map((one) => [...one, "dot"]), [data.every, data.grey, "line"]]) {
    const entry = element("span", "entry", legend);
    element("span", mark, entry).style.background = colour;
    element("span", "", entry, name);
  }
}

function steps(low, high, most) {
  const rough = (high - low) / most, ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((one) => one * ten >= rough);
  const out = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) out.push(k * step);
  return { at: out, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/* Where things are: in rows the values run to the right and the models down, else the models right and values up. */
function layout(figure, brush, style) {
  const { data } = figure, models = data.names.length, width = figure.box.clientWidth;
  const rows = models <= data.most, small = models > data.compact;
  const family = style.getPropertyValue("--st-font") || "sans-serif";
  const font = `${rows && small ? 11 : 13}px ${family}`, pitch = small ? 15 : 27;
  brush.font = font;
  const widest = rows ? Math.max(...data.names.map((name) => brush.measureText(name).width)) : 0;
  const left = rows ? Math.ceil(Math.min(widest, 0.4 * width)) + 16 : LEFT, right = width - SIDE;
  const top = TOP + (rows && small ? 18 : 0), height = rows ? top + pitch * models + BOTTOM : HEIGHT;
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < models; i++) {
    low = Math.min(low, data.low[i], data.all[i]);
    high = Math.max(high, data.high[i], data.all[i]);
  }
  const edge = Math.max(0.04 * (high - low), 0.2);
  [low, high] = [low - edge, high + edge];
  const inner = rows ? right - left : height - BOTTOM - top, scale = inner / (high - low);
  const along = (value) => (rows ? left + (value - low) * scale : height - BOTTOM - (value - low) * scale);
  const across = (i) => (rows ? top + pitch * (i + 0.5) : left + ((i + 0.5) * (right - left)) / models);
  return { rows, small, width, height, left, right, top, bottom: height - BOTTOM, low, high, along, across, font, family };
}

function draw(figure) {
  const { canvas, box, data } = figure;
  figure.width = box.clientWidth;
  if (!figure.width) return;
  const brush = canvas.getContext("2d"), style = getComputedStyle(box);
  const place = (figure.place = layout(figure, brush, style)), dense = window.devicePixelRatio || 1;
  const ink = style.getPropertyValue("--st-text-color") || style.color;
  canvas.width = Math.round(place.width * dense);
  canvas.height = Math.round(place.height * dense);
  canvas.style.height = `${place.height}px`;
  brush.scale(dense, dense);
  axes(brush, place, data, ink, style.getPropertyValue("--st-border-color") || data.grey);
  const { rows, along, across } = place, size = !rows ? 1.6 : place.small ? 3.5 : 5;
  const bar = (a, b, i, thick) => {
    const [from, length] = [Math.min(a, b), Math.abs(b - a)], side = across(i) - thick / 2;
    rows ? brush.fillRect(from, side, length, thick) : brush.fillRect(side, from, thick, length);
  };
  data.names.forEach((_, i) => {
    const at = along(data.all[i]);
    brush.fillStyle = data.grey;
    bar(at - 0.8, at + 0.8, i, rows ? 2.6 * size : 2);
  });
  data.families.forEach(([, colour], family) => {
    brush.fillStyle = colour;
    brush.beginPath();
    for (let i = 0; i < data.names.length; i++) {
      if (data.family[i] !== family) continue;
      const at = along(data.value[i]), [x, y] = rows ? [at, across(i)] : [across(i), at];
      bar(along(data.low[i]), along(data.high[i]), i, rows ? 1.6 : 1);
      brush.moveTo(x + size, y);
      brush.arc(x, y, size, 0, 2 * Math.PI);
    }
    brush.fill();
  });
  point(figure, -1);
  canvas.dataset.n = data.n;
  canvas.dispatchEvent(new CustomEvent("drawn", { detail: data.n, bubbles: true, composed: true }));
}

function axes(brush, place, data, ink, faint) {
  const { rows, small, left, right, top, bottom, along } = place;
  const ticks = steps(place.low, place.high, rows ? Math.max(2, (right - left) / 90) : 6);
  brush.lineWidth = 1;
  brush.textBaseline = "middle";
  for (const value of ticks.at) {
    const at = along(value), text = `${value.toFixed(ticks.digits)} %`;
    brush.fillStyle = faint;
    rows ? brush.fillRect(at, top, 1, bottom - top) : brush.fillRect(left, at, right - left, 1);
    brush.fillStyle = ink;
    brush.font = `12px ${place.family}`;
    brush.textAlign = rows ? "center" : "right";
    rows ? brush.fillText(text, at, bottom + 13) : brush.fillText(text, left - 6, at);
    if (rows && small) brush.fillText(text, at, TOP);
  }
  brush.textAlign = "center";
  brush.font = `13px ${place.family}`;
  brush.fillText(rows ? data.axis : data.ranks, (left + right) / 2, bottom + (rows ? 34 : 24));
  if (rows) {
    brush.textAlign = "right";
    brush.font = place.font;
    data.names.forEach((name, i) => brush.fillText(fitting(brush, name, left - 14), left - 10, place.across(i)));
  } else {
    brush.save();
    brush.translate(10, (top + bottom) / 2);
    brush.rotate(-Math.PI / 2);
    brush.fillText(data.axis, 0, 0);
    brush.restore();
  }
}

function fitting(brush, name, width) {
  if (brush.measureText(name).width <= width) return name;
  let length = name.length;
  while (length > 1 && brush.measureText(`${name.slice(0, length)}…`).width > width) length--;
  return `${name.slice(0, length)}…`;
}

function nearest({ data, place }, x, y) {
  const { rows, left, right, top, bottom } = place, models = data.names.length;
  const share = rows ? (y - top) / (bottom - top) : (x - left) / (right - left);
  return share < 0 || share >= 1 ? -1 : Math.floor(share * models);
}

/* Say what model `i` has, beside its dot; -1: nothing. */
function point(figure, i) {
  const { data, place, tip, box, canvas } = figure;
  if (i === figure.at && !tip.hidden) return;
  figure.at = i;
  tip.hidden = i < 0;
  if (i < 0) return;
  const percent = (value) => value.toFixed(1), change = data.value[i] - data.all[i];
  tip.replaceChildren();
  element("b", "", tip, data.names[i]);
  element("div", "", tip, `${percent(data.value[i])} % [${percent(data.low[i])}, ${percent(data.high[i])}]`);
  const against = `${change < 0 ? "-" : "+"}${percent(Math.abs(change))} pp against all images`;
  element("div", "", tip, `${against} (${percent(data.all[i])} %)`);
  element("div", "", tip, `${data.families[data.family[i]][0]} · n = ${data.n.toLocaleString("en")}`);
  const at = place.along(data.value[i]), [x, y] = place.rows ? [at, place.across(i)] : [place.across(i), at];
  const beyond = x + 14 + tip.offsetWidth > box.clientWidth;
  tip.style.left = `${Math.max(0, beyond ? x - 14 - tip.offsetWidth : x + 14)}px`;
  tip.style.top = `${Math.max(0, canvas.offsetTop + y - tip.offsetHeight / 2)}px`;
}
