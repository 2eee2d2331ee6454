/* Shows the image that the JSON beside it describes. All of that is foreign: it reaches the page as text nodes alone. */
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main"), tip = document.getElementById("tip"), nav = document.getElementById("nav");
const FEW = 300, TILES = 1500, LEVELS = 4;

/* ---- words ---- */
const ODD = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const shown = (text) => String(text).replace(ODD, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
const size = (n) => {
  if (n < 1024) return n + " B";
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let at = -1;
  do { n /= 1024; at++; } while (n >= 1000 && at < 3);
  return n.toFixed(n < 10 ? 1 : 0) + " " + units[at];
};
const count = (n, one, many) => n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");
const percent = (part, whole) => !whole ? "" : part && part / whole < 0.001 ? "< 0.1 %" : (100 * part / whole).toFixed(part / whole < 0.1 ? 1 : 0) + " %";

/* ---- elements: children are elements or texts, never markup ---- */
function el(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") Object.assign(made.style, value);
    else if (value !== false && value !== null) made.setAttribute(key, value === true ? "" : value);
  }
  for (const each of children.flat(Infinity)) if (each !== null && each !== undefined) made.append(each instanceof Node ? each : String(each));
  return made;
}
const foreign = (text, more) => el("span", { class: "foreign" + (more ? " " + more : "") }, shown(text));
const card = (title, ...children) => el("section", { class: "card" }, title ? el("h3", null, title) : null, ...children);
const soft = (text) => el("p", { class: "soft" }, text);
const verdict = (word) => el("span", { class: "verdict " + word }, word);

/* A table with a filter and sorting by heading; columns: {title, value(row) to sort, cell(row), class}. */
function table(rows, columns, options) {
  const settings = Object.assign({ sort: null, down: false, filter: null, empty: "nothing" }, options);
  if (!rows.length) return soft(settings.empty);
  const body = el("tbody"), more = el("p"), status = el("span", { class: "soft", role: "status" });
  let limit = FEW, wanted = "";
  const draw = () => {
    let found = wanted ? rows.filter((row) => settings.filter(row).toLowerCase().includes(wanted)) : rows.slice();
    if (settings.sort !== null) {
      const value = columns[settings.sort].value, sign = settings.down ? -1 : 1;
      found.sort((a, b) => { const x = value(a), y = value(b); return sign * (x < y ? -1 : x > y ? 1 : 0); });
    }
    body.replaceChildren(...found.slice(0, limit).map((row) =>
      el("tr", null, columns.map((column) => el("td", { class: column.class || "" }, column.cell(row))))));
    if (!found.length) body.append(el("tr", null, el("td", { colspan: columns.length, class: "soft" }, settings.empty)));
    more.replaceChildren();
    if (found.length > limit) more.append(el("button", { class: "action", onclick: () => { limit = Infinity; draw(); } }, "Show all " + found.length.toLocaleString("en")));
    status.textContent = wanted ? count(found.length, "row") : "";
  };
  const heads = columns.map((column, number) => el("th", { class: column.class || "", scope: "col" }, column.value
    ? el("button", { onclick: () => { settings.down = settings.sort === number ? !settings.down : Boolean(column.down); settings.sort = number; draw(); } }, column.title)
    : column.title));
  draw();
  const search = el("input", { type: "search", placeholder: "Filter", "aria-label": "Filter", oninput: (event) => { wanted = event.target.value.toLowerCase(); draw(); } });
  return el("div", null, settings.filter && rows.length > 8 ? el("div", { class: "tools" }, search, status) : null,
    el("div", { class: "scroll" }, el("table", null, el("thead", null, el("tr", null, heads)), body)), more);
}

function lines(text) {
  return el("pre", { tabindex: 0 }, text.split("\n").map((line, number) =>
    el("div", null, el("i", null, number + 1), el("span", { class: "foreign" }, shown(line.replace(/\t/g, "    "))))));
}

function bar(parts) {
  const whole = parts.reduce((sum, part) => sum + part.size, 0);
  return el("div", null,
    el("div", { class: "bar", "aria-hidden": "true" }, parts.filter((part) => part.size).map((part) => hinted(
      el("span", { style: { flex: part.size + " 1 0", background: part.colour } }), () => [part.name, size(part.size), percent(part.size, whole)]))),
    el("ul", { class: "legend" }, parts.map((part) => el("li", null, el("span", { class: "swatch", style: { background: part.colour } }),
      foreign(part.name), el("span", { class: "soft" }, size(part.size) + " · " + percent(part.size, whole))))));
}

function hinted(element, words) {
  const show = (event) => {
    tip.replaceChildren(...words().map((word, number) => el("div", { class: number ? "" : "foreign" }, shown(word))));
    tip.hidden = false;
    const { clientX: x, clientY: y } = event, box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = (y + box.height + 24 > innerHeight ? y - box.height - 10 : y + 16) + "px";
  };
  element.addEventListener("mousemove", show);
  element.addEventListener("mouseleave", () => { tip.hidden = true; });
  return element;
}

/* ---- the tree: columns of one number or word a file, a directory before what is in it ---- */
const tree = data.tree, total = tree.size.slice(), files = tree.kind.split("").map((kind) => kind === "f" ? 1 : 0);
const children = tree.name.map(() => null);
for (let at = 1; at < tree.name.length; at++) (children[tree.parent[at]] ||= []).push(at);
for (let at = tree.name.length - 1; at > 0; at--) { total[tree.parent[at]] += total[at]; files[tree.parent[at]] += files[at]; }
const managers = data.managers.map((name, number) => ({ name, colour: "var(--c" + (number % 8) + ")" }));
const NONE = { name: "no package", colour: "var(--none)" };
const owner = (at) => tree.package[at] < 0 ? null : data.packages[tree.package[at]];
const managerOf = (at) => { const found = owner(at); return found ? managers[found[0]] : NONE; };
const isDirectory = (at) => tree.kind[at] === "d";
const inOrder = (list) => (list || []).slice().sort((a, b) => total[b] - total[a]);
const way = (at) => { const found = []; for (let each = at; each > 0; each = tree.parent[each]) found.unshift(each); return found; };
const path = (at) => "/" + way(at).map((each) => tree.name[each]).join("/");
const WORDS = { d: "directory", f: "file", l: "link", c: "character device", b: "block device", p: "pipe", s: "socket" };
/* The manager that has most of what is in a directory gives it its colour. */
const heaviest = new Array(tree.name.length);
{
  const sums = tree.name.map((_, at) => isDirectory(at) ? new Map() : null);
  for (let at = tree.name.length - 1; at > 0; at--) {
    const into = sums[tree.parent[at]], own = sums[at];
    if (own) { for (const [who, n] of own) into.set(who, (into.get(who) || 0) + n); heaviest[at] = top(own); sums[at] = null; }
    else { const who = managerOf(at); heaviest[at] = who; into.set(who, (into.get(who) || 0) + tree.size[at]); }
  }
  function top(sums) { let best = NONE, most = -1; for (const [who, n] of sums) if (n > most) { best = who; most = n; } return best; }
}

/* Squarified treemap: rows of tiles that are as square as can be (Bruls, Huizing, van Wijk 2000). */
function squarify(list, x, y, width, height, place) {
  let rest = list.reduce((sum, at) => sum + total[at], 0), begin = 0;
  while (begin < list.length && rest > 0 && width > 0.5 && height > 0.5) {
    const side = Math.min(width, height), scale = width * height / rest;
    let end = begin, sum = 0, worst = Infinity;
    while (end < list.length) {
      const next = sum + total[list[end]], area = next * scale, big = total[list[begin]] * scale, small = total[list[end]] * scale;
      const ratio = Math.max(side * side * big / (area * area), area * area / (side * side * small));
      if (ratio > worst) break;
      worst = ratio; sum = next; end++;
    }
    if (!sum) return;
    const thick = sum * scale / side;
    let along = 0;
    for (let at = begin; at < end; at++) {
      const long = total[list[at]] * scale / thick;
      if (width >= height) place(list[at], x, y + along, thick, long); else place(list[at], x + along, y, long, thick);
      along += long;
    }
    if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
    rest -= sum; begin = end;
  }
}

function treemap(at, open) {
  const map = el("div", { class: "map" });
  const draw = () => {
    const width = map.clientWidth, height = map.clientHeight;
    map.replaceChildren();
    let left = TILES;
    const put = (depth) => (each, x, y, w, h) => {
      if (w < 3 || h < 3 || left-- < 0) return;
      const nest = isDirectory(each) && depth < LEVELS && w > 64 && h > 44;
      const box = { left: x + "px", top: y + "px", width: w + "px", height: h + "px" };
      box[nest ? "borderColor" : "background"] = heaviest[each].colour;
      const words = () => [path(each), size(total[each]) + " · " + percent(total[each], total[at]),
        isDirectory(each) ? count(files[each], "file") : WORDS[tree.kind[each]], owner(each) ? packageName(owner(each)) : heaviest[each].name];
      const label = w > 34 && h > 18 ? [el("b", null, shown(tree.name[each])), !nest && h > 36 ? el("span", null, size(total[each])) : null] : [];
      map.append(hinted(el("button", { class: nest ? "tile nest" : "tile", style: box, "aria-label": shown(tree.name[each]) + ", " + size(total[each]), onclick: () => open(each) }, label), words));
      if (nest) squarify(biggest(each), x + 3, y + 20, w - 6, h - 23, put(depth + 1));
    };
    squarify(biggest(at), 0, 0, width, height, put(1));
    if (!total[at]) map.append(soft("nothing in it has a size"));
  };
  new ResizeObserver(draw).observe(map);
  return map;
}
/* What is too small to be seen is left out: a directory may have a hundred thousand files. */
const biggest = (at) => inOrder(children[at]).filter((each) => total[each] > 0).slice(0, 250);
const packageName = (found) => managers[found[0]].name + " " + found[1] + " " + found[2];

function legend() {
  return el("ul", { class: "legend" }, [...managers, NONE].map((each) => el("li", null,
    el("span", { class: "swatch", style: { background: each.colour } }), each.name)));
}

/* ---- parts ---- */
const parts = [];
const part = (id, title, make, note) => parts.push({ id, title, make, note });

part("overview", "Overview", () => {
  const about = data.image, figures = [["Image", size(about.size)], ["Files", files[0].toLocaleString("en")], ["Content", size(total[0])],
    ["Packages", data.packages.length.toLocaleString("en")], ["Format", about.format]];
  const facts = [["Distribution", about.distribution], ["Architecture", about.architecture], ["Built from", about.base], ["Fetched from", about.origin],
    ["Version", data.labels["org.opencontainers.image.version"] || data.labels.Version], ["SHA-256 of the root file system", about.sha256]].filter((fact) => fact[1]);
  const findings = data.check.rows.map((row) => row[4]), worst = ["fails", "warning", "ok"].find((word) => findings.includes(word));
  const states = el("dl", null,
    el("dt", null, "Signatures"), el("dd", null, verdictOf(data.signatures.state), " ", foreign(data.signatures.text)),
    el("dt", null, "Check on this host"), el("dd", null, worst ? verdict(worst) : null, " ", foreign(worst ? count(findings.length, "finding") : data.check.text)));
  return [
    el("div", { class: "figures" }, figures.map(([label, value]) => el("div", { class: "card" }, el("div", { class: "label" }, label), el("div", { class: "figure" }, shown(value))))),
    card("Where the space goes", bar(data.shares.map(([who, n]) => ({ ...(who < 0 ? NONE : managers[who]), size: n })))),
    card("Directories", treemap(0, (at) => go("files", at)), el("p", null), legend()),
    facts.length ? card("About", el("dl", null, facts.map(([label, value]) => [el("dt", null, label), el("dd", null, foreign(value))]))) : null,
    card("State", states)];
});
const verdictOf = (state) => state === "good" ? verdict("ok") : state === "unverified" ? verdict("warning") : null;

part("files", "Files", (start) => {
  const holder = el("div"), results = el("div");
  let current = start && isDirectory(start) ? start : start ? tree.parent[start] : 0;
  const open = (at) => { if (isDirectory(at)) { current = at; draw(); } else { detail.replaceChildren(described(at)); detail.scrollIntoView({ block: "nearest" }); } };
  const detail = el("div");
  const described = (at) => card(path(at), el("dl", null,
    [["Kind", WORDS[tree.kind[at]]], ["Size", tree.kind[at] === "f" ? size(tree.size[at]) + " (" + tree.size[at].toLocaleString("en") + " bytes)" : ""],
      ["Leads to", data.targets[at]], ["Mode", tree.mode[at].toString(8).padStart(4, "0")],
      ["Package", owner(at) ? packageName(owner(at)) : "none"]].filter((row) => row[1]).map(([label, value]) => [el("dt", null, label), el("dd", null, foreign(value))])));
  const link = (at, text) => el("button", { class: "plain mono", onclick: () => open(at) }, foreign(text));
  const crumbs = () => el("div", { class: "crumbs mono" }, [0, ...way(current)].map((at) => [
    at ? el("span", { class: "soft" }, at === way(current)[0] ? "" : "/") : null, el("button", { onclick: () => open(at) }, at ? shown(tree.name[at]) : "/")]));
  const draw = () => {
    const whole = total[current] || 1;
    detail.replaceChildren();
    holder.replaceChildren(crumbs(), card("", treemap(current, open), el("p", null), legend()), detail, card("", table(inOrder(children[current]), [
      { title: "Name", class: "name", value: (at) => tree.name[at], cell: (at) => [link(at, tree.name[at] + (isDirectory(at) ? "/" : "")), data.targets[at] ? el("span", { class: "soft mono" }, " → ", foreign(data.targets[at])) : null] },
      { title: "Size", class: "number", down: true, value: (at) => total[at], cell: (at) => size(total[at]) },
      { title: "Share", class: "optional", cell: (at) => el("span", { class: "track" }, el("span", { class: "share", style: { width: 100 * total[at] / whole + "%", background: heaviest[at].colour } })) },
      { title: "Files", class: "number optional", down: true, value: (at) => files[at], cell: (at) => isDirectory(at) ? files[at].toLocaleString("en") : "" },
      { title: "Mode", class: "short optional mono", cell: (at) => tree.mode[at].toString(8).padStart(4, "0") },
      { title: "Package", class: "optional", value: (at) => owner(at) ? owner(at)[1] : "", cell: (at) => owner(at) ? foreign(owner(at)[1]) : isDirectory(at) ? "" : el("span", { class: "soft" }, "none") },
    ], { empty: "an empty directory" })));
  };
  const search = (event) => {
    const wanted = event.target.value.toLowerCase(), found = [];
    if (wanted) for (let at = 1; at < tree.name.length && found.length < 200; at++) if (tree.name[at].toLowerCase().includes(wanted)) found.push(at);
    results.replaceChildren(wanted ? card(found.length === 200 ? "The first 200" : count(found.length, "file"), ...found.map((at) => el("div", null, link(at, path(at)), " ", el("span", { class: "soft" }, size(total[at]))))) : "");
    holder.hidden = Boolean(wanted);
  };
  draw();
  if (start && !isDirectory(start)) open(start);
  return [el("div", { class: "tools" }, el("input", { type: "search", placeholder: "Find a file by name", "aria-label": "Find a file", oninput: search })), results, holder];
}, files[0]);

part("packages", "Packages", () => {
  const rows = data.packages;
  return [card("", table(rows, [
    { title: "Name", class: "name", value: (row) => row[1].toLowerCase(), cell: (row) => [el("span", { class: "swatch", style: { background: managers[row[0]].colour } }), " ", foreign(row[1])] },
    { title: "Version", value: (row) => row[2], cell: (row) => foreign(row[2]) },
    { title: "By", class: "short optional", value: (row) => row[0], cell: (row) => managers[row[0]].name },
    { title: "Size", class: "number", down: true, value: (row) => row[6], cell: (row) => row[6] ? size(row[6]) : "" },
    { title: "Architecture", class: "optional", value: (row) => row[3], cell: (row) => foreign(row[3]) },
    { title: "Licence", class: "optional", value: (row) => row[4], cell: (row) => foreign(row[4]) },
    { title: "Noted in", class: "optional mono place", value: (row) => row[5], cell: (row) => foreign(row[5]) },
  ].filter((column) => column.title !== "Licence" || rows.some((row) => row[4])), { sort: 3, down: true, filter: (row) => packageName(row) + " " + row[4], empty: "no package manager has noted any" })),
  data.loose.length ? card("Programs and libraries of no package", table(data.loose, [
    { title: "Path", class: "name mono", value: (row) => row[0], cell: (row) => foreign(row[0]) },
    { title: "Size", class: "number", down: true, value: (row) => row[1], cell: (row) => size(row[1]) },
    { title: "Build id", class: "optional mono", cell: (row) => row[2] || el("span", { class: "soft" }, "none") },
  ], { sort: 1, down: true })) : null];
}, data.packages.length);

part("layers", "Layers", () => {
  const whole = data.layers.reduce((sum, layer) => sum + layer[1], 0);
  return [card("", bar(data.layers.map((layer, number) => ({ name: layer[0], size: layer[1], colour: "var(--c" + number % 8 + ")" })))),
    card("", table(data.layers, [
      { title: "What", class: "name", cell: (layer) => foreign(layer[0]) },
      { title: "Size", class: "number", cell: (layer) => size(layer[1]) },
      { title: "Share", class: "number", cell: (layer) => percent(layer[1], whole) },
      { title: "Made by", cell: (layer) => foreign(layer[2], "mono") },
    ], {}))];
}, data.layers.length);

part("definition", "Definition", () => data.definitions.length ? data.definitions.map(([name, text]) => card(name, lines(text)))
  : [soft("The image keeps no definition.")]);

part("about", "Labels, environment", () => [
  card("Labels", table(Object.entries(data.labels), [
    { title: "Label", class: "name mono", value: (row) => row[0], cell: (row) => foreign(row[0]) },
    { title: "Value", cell: (row) => foreign(row[1]) }], { empty: "none" })),
  ...data.texts.map(([name, text]) => card(name, lines(text)))]);

part("sbom", "SBOM", () => [card("The list of what is in it",
  el("p", null, "As programs read it, made from what the package managers have noted in the image."),
  el("div", { class: "tools" }, Object.entries(data.sbom).map(([name, document_]) => el("button", { class: "action", onclick: () => save(name, document_) }, "Save " + name)))),
  data.stored.length ? card("In the SIF file", ...data.stored.map((name) => el("p", null, foreign(name)))) : null]);
function save(name, text) {
  const place = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href: place, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(place), 1000);
}

part("signatures", "Signatures", () => [card("", el("p", null, verdictOf(data.signatures.state), " ", foreign(data.signatures.text)),
  data.signatures.rows.length ? table(data.signatures.rows, [
    { title: "Signer", class: "name", cell: (row) => foreign(row[0]) },
    { title: "Key", cell: (row) => foreign(row[1], "mono") },
    { title: "Of", cell: (row) => foreign(row[2]) }], {}) : null)]);

part("check", "Check", () => [card("What would fail on the host that made this page",
  data.check.rows.length ? table(data.check.rows, [
    { title: "Verdict", class: "short", cell: (row) => verdict(row[4]) },
    { title: "What", class: "name", cell: (row) => foreign(row[1]) },
    { title: "Found", cell: (row) => foreign(row[2]) },
    { title: "Needed", class: "optional", cell: (row) => foreign(row[3]) },
    { title: "What to do", cell: (row) => foreign(row[5]) }], {}) : soft(shown(data.check.text)))]);

if (data.difference) part("difference", "Differences", () => {
  const found = data.difference, mark = (word) => verdict(word);
  const state = (row) => !hasSide(row.before) ? "added" : !hasSide(row.after) ? "removed" : "changed";
  const versions = (row) => [row.before, row.after].filter(hasSide).map((side) => side.join(", ")).join(" → ");
  return [el("p", { class: "soft" }, "From ", foreign(found.against, "mono"), " to this image."),
    card("Packages", table(found.packages, [
      { title: "", class: "short", value: state, cell: (row) => mark(state(row)) },
      { title: "Package", class: "name", value: (row) => row.name, cell: (row) => foreign(row.manager + " " + row.name) },
      { title: "Version", cell: (row) => foreign(versions(row)) }], { filter: (row) => row.name, empty: "the same" })),
    card("Configuration", table(found.config, [
      { title: "", class: "short", value: state, cell: (row) => mark(state(row)) },
      { title: "What", class: "name", value: (row) => row.name, cell: (row) => foreign(row.name) },
      { title: "Before", cell: (row) => row.before ? lines(row.before) : "" },
      { title: "After", cell: (row) => row.after ? lines(row.after) : "" }], { empty: "the same" })),
    card("Files", table(found.files, [
      { title: "", class: "short", value: state, cell: (row) => mark(state(row)) },
      { title: "Path", class: "name mono", value: (row) => row.path, cell: (row) => foreign(row.path) },
      { title: "Size", class: "number", value: (row) => (row.after || row.before).size || 0, down: true, cell: (row) => size((row.after || row.before).size || 0) },
      { title: "Differs in", cell: (row) => (row.changed || []).join(", ") }], { filter: (row) => row.path, empty: "the same" }))];
}, data.difference.packages.length + data.difference.config.length + data.difference.files.length);
function hasSide(side) { return side !== undefined && side !== null && side !== "" && !(Array.isArray(side) && !side.length); }

/* ---- from part to part ---- */
function go(id, start) {
  const found = parts.find((each) => each.id === id) || parts[0];
  tip.hidden = true;
  main.replaceChildren(el("h2", null, found.title), ...[found.make(start)].flat().filter(Boolean));
  for (const link of nav.children) if (link.hash === "#" + found.id) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  if (location.hash !== "#" + found.id) history.pushState(null, "", "#" + found.id);
  scrollTo(0, 0);
}
document.title = shown(data.image.name);
document.getElementById("name").textContent = shown(data.image.name);
document.getElementById("about").textContent = shown([data.image.format, data.image.distribution, data.image.architecture, data.image.made].filter(Boolean).join(" · "));
nav.append(...parts.map((each) => el("a", { href: "#" + each.id, onclick: (event) => { event.preventDefault(); go(each.id); } }, each.title,
  each.note ? el("small", null, each.note.toLocaleString("en")) : null)));
addEventListener("popstate", () => go(location.hash.slice(1)));
go(location.hash.slice(1) || "overview");
})();
