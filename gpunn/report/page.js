// Draws a run: of the state in the page or, where there is none, of what the server sends. Texts of the run only ever
// become text nodes, so nothing in them is taken for HTML.
"use strict";
(() => {
  const SETS = { train: "training", test: "test" };
  const QUANTITIES = {
    loss: "Loss", accuracy: "Accuracy (%)", bits_per_character: "Bits/character", perplexity: "Perplexity",
    lr: "Learning rate", learning_rate: "Learning rate",
  };
  const NOT_DRAWN = ["epoch", "step", "steps", "seconds"];
  const LESS_IS_BETTER = /loss|bits|perplexity/;
  const STATUS = { unfinished: "not finished", running: "training" };
  const COLOURS = 7;
  const DOTS_UP_TO = 40; // points of a line; more would hide it

  const byId = (id) => document.getElementById(id);
  const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const drawing = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.map(String).map((text, i) => (children[i] instanceof Node ? children[i] : text)));
    return node;
  };
  const drawable = (value) => Math.abs(value) < 1e300; // so that differences and decades are finite; false for NaN
  const show = (id, wanted) => { byId(id).hidden = !wanted; };
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
  const words = (name) => name.replaceAll("_per_", "/").replaceAll("_", " ");

  // ---- what the run is ----------------------------------------------------------------------------------------------

  const embedded = JSON.parse(byId("state").textContent);
  const live = embedded === null;
  let about = null;
  let lines = []; // of metrics.jsonl: {number, fields: [[name, text, number or null], ...], problem}
  let records = []; // those without a problem: {x, label, values: Map of numbers}
  let lastLine = null; // when the newest line was written, by the clock of this page

  const ended = () => about !== null && !["unfinished", "running"].includes(about.status);

  function take(more) {
    for (const line of more) {
      lines.push(line);
      if (line.problem !== null) continue;
      const values = new Map(line.fields.filter(([, , number]) => number !== null).map(([name, , number]) => [name, number]));
      const cell = line.fields.find(([name]) => name === "cell");
      records.push({ x: values.get("epoch") ?? line.number, label: cell ? cell[1].toUpperCase() : "", values });
    }
  }

  // ---- numbers ------------------------------------------------------------------------------------------------------

  function short(value, digits = 4) {
    const rounded = Number(value.toPrecision(digits));
    const size = Math.abs(rounded);
    return (rounded !== 0 && size < 1e-3) || size >= 1e7 ? rounded.toExponential() : String(rounded);
  }

  function measured(quantity, value) {
    return quantity === "accuracy" ? `${(100 * value).toFixed(2)} %` : short(value);
  }

  function duration(seconds) {
    if (seconds < 10) return `${short(seconds, 2)} s`;
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  }

  /** A number as it is written; the digits after the fifth are there, but faint. */
  function digits(text) {
    const parts = text.includes(".") ? /^(-?[0.]*(?:\d\.?){0,5})(\d*)(.*)$/.exec(text) : null;
    if (!parts || !parts[2]) return [text];
    return [parts[1], element("span", { class: "rest" }, parts[2]), parts[3]].filter((part) => part !== "");
  }

  /** The part and the quantity of a measure: test_loss is the loss on the test set. */
  function measure(name) {
    const set = Object.keys(SETS).find((each) => name.startsWith(`${each}_`));
    return set ? { set, quantity: name.slice(set.length + 1) } : { set: "", quantity: name };
  }

  // ---- curves -------------------------------------------------------------------------------------------------------

  function panels() {
    const found = new Map(); // quantity -> series by name
    const labels = [...new Set(records.map((record) => record.label))];
    for (const record of records) {
      for (const [name, value] of record.values) {
        if (NOT_DRAWN.includes(name)) continue;
        const { set, quantity } = measure(name);
        if (!found.has(quantity)) found.set(quantity, new Map());
        const key = `${record.label} ${name}`;
        if (!found.get(quantity).has(key)) {
          const part = Math.max(0, Object.keys(SETS).indexOf(set));
          const colour = (labels.length > 1 ? labels.indexOf(record.label) : part) % COLOURS;
          const called = [record.label, SETS[set]].filter(Boolean).join(" ") || words(quantity);
          found.get(quantity).set(key, { label: record.label, name, called, colour, style: part, points: [] });
        }
      }
    }
    for (const series of found.values()) {
      for (const each of series.values()) {
        // A record of this kind that lacks the measure leaves a gap.
        const own = records.filter((record) => record.label === each.label);
        each.points = own.map((record) => ({ x: record.x, y: record.values.get(each.name) ?? NaN }));
      }
    }
    const order = Object.keys(QUANTITIES);
    const rank = (quantity) => (order.includes(quantity) ? order.indexOf(quantity) : order.length);
    return [...found].map(([quantity, series]) => ({ quantity, series: [...series.values()] }))
      .sort((a, b) => rank(a.quantity) - rank(b.quantity));
  }

  function steps(low, high, count, whole) {
    const rough = Math.max((high - low) / count, Number.MIN_VALUE);
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999) ?? rough;
    if (whole) step = Math.max(1, Math.round(step));
    const begin = Math.ceil(low / step - 1e-9);
    const ticks = [...Array(2 * Math.ceil(count) + 2).keys()].map((i) => Number(((begin + i) * step).toPrecision(12)));
    return { ticks: [...new Set(ticks.filter((tick) => tick <= high + step * 1e-9))], step };
  }

  /** A scale from values to a place: its ends, its ticks, and whether it is logarithmic. */
  function scaleOf(values, quantity) {
    let low = Math.min(...ends(values)), high = Math.max(...ends(values));
    if (LESS_IS_BETTER.test(quantity) && low > 1e-300 && high / low >= 8) {
      const decade = (value) => 10 ** Math.floor(Math.log10(value));
      const marks = (high / low > 300 ? [1, 10] : [1, 2, 5, 10]);
      const down = Math.max(...marks.map((m) => m * decade(low)).filter((v) => v <= low * (1 + 1e-9)));
      const up = Math.min(...marks.map((m) => m * decade(high)).filter((v) => v >= high * (1 - 1e-9)));
      let ticks = [];
      for (let d = decade(down); d <= up * 1.001; d *= 10) for (const m of marks.slice(0, -1)) ticks.push(Number((m * d).toPrecision(3)));
      ticks = ticks.filter((tick) => tick >= down * 0.999 && tick <= up * 1.001);
      const every = Math.ceil(ticks.length / 9);
      return { low: down, high: up, ticks: ticks.filter((_, i) => i % every === 0), place: (v) => Math.log(v / down) / Math.log(up / down) };
    }
    if (low === high) { const margin = Math.abs(low) / 10 || 1; low -= margin; high += margin; }
    const { step } = steps(low, high, 5, false);
    low = Math.floor(low / step + 1e-9) * step;
    high = Math.ceil(high / step - 1e-9) * step;
    if (quantity === "accuracy") { high = Math.min(high, 100); low = Math.max(low, 0); }
    return { low, high, ticks: steps(low, high, 6, false).ticks, place: (v) => (v - low) / (high - low) };
  }

  /** The smallest and the largest; without spreading thousands of arguments. */
  const ends = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

  function chart(panel, width) {
    const factor = panel.quantity === "accuracy" ? 100 : 1;
    const drawn = panel.series.map((series) => ({
      ...series, points: series.points.map(({ x, y }) => ({ x, y: factor * y })).filter(({ x }) => drawable(x)),
    }));
    const all = drawn.flatMap((series) => series.points);
    const values = all.map(({ y }) => y).filter(drawable);
    if (!values.length) return null;
    const scale = scaleOf(values, panel.quantity);
    const tickText = (tick) => (Math.abs(tick) >= 1e5 || (tick && Math.abs(tick) < 1e-4) ? tick.toExponential().replace("+", "") : String(tick));
    const height = 250, top = 10, right = 14, bottom = 36;
    const left = 16 + 7.2 * Math.max(1, ...scale.ticks.map((tick) => tickText(tick).length));
    let [first, last] = ends(all.map(({ x }) => x));
    if (!ended() && about && about.epochs > last) last = about.epochs;
    if (first === last) { first -= 0.5; last += 0.5; }
    const px = (x) => left + ((x - first) / (last - first)) * (width - left - right);
    const py = (y) => top + (1 - scale.place(y)) * (height - top - bottom);
    const at = (value) => Number(value.toFixed(2));
    const half = (value) => Math.round(value) + 0.5; // a line of one pixel lies between two borders

    const title = QUANTITIES[panel.quantity] ?? capital(words(panel.quantity));
    const svg = drawing("svg", {
      class: "chart", viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "img",
      "aria-label": `${title} over the epochs: ${drawn.map((s) => `${s.called} ${short(s.points.at(-1).y)} at the end`).join(", ")}`,
    });
    for (const tick of scale.ticks) {
      const y = half(py(tick));
      svg.append(drawing("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }));
      svg.append(drawing("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, tickText(tick)));
    }
    const below = height - bottom;
    for (const tick of steps(first, last, Math.max(2, Math.min(8, width / 70)), true).ticks) {
      const x = half(px(tick));
      svg.append(drawing("line", { class: "axis", x1: x, x2: x, y1: half(below), y2: half(below) + 4 }));
      svg.append(drawing("text", { x, y: below + 17, "text-anchor": "middle" }, tick));
    }
    svg.append(drawing("path", { class: "axis", d: `M${half(left)} ${top}V${half(below)}H${width - right}` }));
    svg.append(drawing("text", { x: (left + width - right) / 2, y: height - 3, "text-anchor": "middle" }, "epoch"));
    for (const series of drawn) {
      const kind = `c${series.colour}`;
      let path = "", open = false;
      const shown = series.points.filter(({ y }) => drawable(y));
      series.points.forEach(({ x, y }, i) => {
        if (!drawable(y)) { open = false; return; }
        path += `${open ? "L" : "M"}${at(px(x))} ${at(py(y))}`;
        const alone = !open && !drawable(series.points[i + 1]?.y);
        if (alone || shown.length <= DOTS_UP_TO) series.dots = [...(series.dots ?? []), { x, y }];
        open = true;
      });
      svg.append(drawing("path", { class: `line ${kind} s${series.style}`, d: path }));
      for (const { x, y } of series.dots ?? []) {
        svg.append(drawing("circle", { class: `dot ${kind}`, cx: at(px(x)), cy: at(py(y)), r: shown.length > 25 ? 2 : 2.75 }));
      }
    }
    return { svg, drawn, title, px, py, top, below, width };
  }

  function hover(figure, { svg, drawn, px, py, top, below, width }, quantity) {
    const xs = [...new Set(drawn.flatMap((series) => series.points.map(({ x }) => x)))].sort((a, b) => a - b);
    const marks = drawing("g", {});
    const tip = element("div", { class: "tip" });
    let index = xs.length - 1;
    tip.hidden = true;
    svg.append(marks);
    figure.append(tip);
    const leave = () => { tip.hidden = true; marks.replaceChildren(); };
    const point = (i) => {
      index = Math.max(0, Math.min(xs.length - 1, i));
      const x = xs[index];
      marks.replaceChildren(drawing("line", { class: "guide", x1: px(x), x2: px(x), y1: top, y2: below }));
      const body = element("tbody");
      for (const series of drawn) {
        const y = series.points.find((each) => each.x === x)?.y;
        if (!drawable(y)) continue;
        marks.append(drawing("circle", { class: `dot c${series.colour}`, cx: px(x), cy: py(y), r: 4 }));
        const value = quantity === "accuracy" ? `${y.toFixed(2)} %` : short(y);
        body.append(element("tr", {}, element("th", {}, series.called), element("td", {}, value)));
      }
      tip.replaceChildren(element("b", {}, `epoch ${x}`), element("table", {}, body));
      tip.hidden = false;
      const ratio = svg.getBoundingClientRect().width / width;
      const place = svg.offsetLeft ?? svg.getBoundingClientRect().left - figure.getBoundingClientRect().left;
      const to = place + px(x) * ratio;
      tip.style.top = `${svg.getBoundingClientRect().top - figure.getBoundingClientRect().top + 4}px`;
      const overRight = to + 14 + tip.offsetWidth > figure.clientWidth;
      tip.style.left = `${Math.max(0, overRight ? to - 14 - tip.offsetWidth : to + 14)}px`;
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * width;
      point(xs.reduce((best, each, i) => (Math.abs(px(each) - x) < Math.abs(px(xs[best]) - x) ? i : best), 0));
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      point(tip.hidden ? index : index + by);
    });
  }

  function drawCurves() {
    const place = byId("curves").querySelector(".panels");
    place.replaceChildren();
    const all = panels();
    show("curves", all.length > 0);
    const figures = all.map((panel) => ({ panel, figure: element("figure", { "data-quantity": panel.quantity }) }));
    place.append(...figures.map(({ figure }) => figure)); // first, as the layout tells how wide they are
    for (const { panel, figure } of figures) {
      const padding = 30;
      const drawn = chart(panel, Math.max(240, Math.floor(figure.clientWidth - padding)));
      if (drawn === null) { figure.remove(); continue; }
      const caption = element("figcaption", {}, drawn.title);
      for (const series of panel.series) {
        const sample = drawing("path", { class: `line c${series.colour} s${series.style}`, d: "M0 4H26" });
        const swatch = drawing("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, sample);
        caption.append(element("span", { class: "legend" }, swatch, series.called));
      }
      figure.append(caption, drawn.svg);
      hover(figure, drawn, panel.quantity);
    }
  }

  // ---- the rest of the page -----------------------------------------------------------------------------------------

  const MAIN = ["test_accuracy", "test_bits_per_character", "test_perplexity", "test_loss", "train_loss"];

  /** The record with the best value of a measure, the first of equals. */
  function bestOf(own, name) {
    const sign = LESS_IS_BETTER.test(name) ? -1 : 1;
    return own.filter(({ values }) => values.has(name))
      .reduce((best, each) => (best && sign * each.values.get(name) <= sign * best.values.get(name) ? best : each), null);
  }

  function drawTiles() {
    const tiles = [];
    const size = (value) => (String(value).length > 12 ? "value longest" : String(value).length > 8 ? "value long" : "value");
    const add = (what, value, more = "") => tiles.push(element("div", { class: "tile" }, element("div", { class: "what" }, what),
      element("div", { class: size(value) }, value), element("div", { class: "more" }, more)));
    const labels = [...new Set(records.map((record) => record.label))];
    for (const label of labels) {
      const own = records.filter((record) => record.label === label);
      const names = MAIN.filter((name) => own.at(-1).values.has(name)).slice(0, labels.length > 1 ? 1 : 3);
      for (const name of names) {
        const { quantity } = measure(name);
        const best = bestOf(own, name);
        add([label, words(name)].filter(Boolean).join(" "), measured(quantity, own.at(-1).values.get(name)),
          own.length > 1 ? `best ${measured(quantity, best.values.get(name))}, epoch ${best.x}` : "");
      }
    }
    if (records.length) {
      const done = Math.max(...ends(records.map(({ x }) => x)));
      add("epochs", about?.epochs ? `${done} / ${about.epochs}` : done);
      const seconds = records.reduce((sum, { values }) => sum + (values.get("seconds") ?? 0), 0);
      if (seconds > 0) add("time in epochs", duration(seconds), `${duration(seconds / records.length)} each`);
    }
    const parameters = about?.summary.find(([name]) => name === "parameters");
    if (parameters) add("parameters", Number(parameters[1]).toLocaleString("en"));
    byId("tiles").replaceChildren(...tiles);
  }

  function drawProgress() {
    const done = records.length ? Math.max(...ends(records.map(({ x }) => x))) : 0;
    const total = about?.epochs;
    const running = about !== null && !ended();
    show("progress", running && total > 0);
    show("remaining", running);
    if (!running) return;
    byId("bar").style.width = `${total ? Math.min(100, (100 * done) / total) : 0}%`;
    const parts = [records.length ? `epoch ${done}${total ? ` of ${total}` : ""} done` : "no epoch is done yet"];
    if (live && records.length) {
      const recent = records.slice(-6).map(({ values }) => values.get("seconds")).filter(Number.isFinite);
      const cells = new Set(records.map(({ label }) => label)).size;
      const each = cells * recent.reduce((sum, value) => sum + value, 0) / recent.length;
      if (each > 0 && total > done) parts.push(`about ${duration(each * (total - done))} left`);
      if (lastLine !== null) parts.push(`last epoch ended ${duration(Math.max(0, Math.round((Date.now() - lastLine) / 1000)))} ago`);
    }
    byId("remaining").textContent = parts.join(" · ");
  }

  let columns = [];

  function drawRows(from) {
    const table = byId("epochs").querySelector("table");
    const names = [...new Set([...columns, ...lines.slice(from).flatMap(({ fields }) => fields.map(([name]) => name))])];
    if (names.length !== columns.length) { // another column: all rows get it
      columns = names;
      from = 0;
    }
    if (from === 0) {
      table.tBodies[0].replaceChildren();
      const number = (name) => lines.some(({ fields }) => fields.some(([own, , value]) => own === name && value !== null));
      table.tHead.replaceChildren(element("tr", {}, ...columns.map((name) => element("th", number(name) ? { class: "number", scope: "col" } : { scope: "col" }, name))));
    }
    const rows = document.createDocumentFragment();
    for (const line of lines.slice(from).filter(({ problem }) => problem === null)) {
      const fields = new Map(line.fields.map(([name, ...rest]) => [name, rest]));
      rows.append(element("tr", { "data-line": line.number }, ...columns.map((name) => {
        const [text, number] = fields.get(name) ?? ["", null];
        return number === null ? element("td", {}, text) : element("td", { class: "number" }, ...digits(text));
      })));
    }
    table.tBodies[0].append(rows);
    const name = MAIN.find((each) => columns.includes(each));
    const best = name && new Set(records.map(({ label }) => label)).size === 1 ? bestOf(records, name) : null;
    [...table.rows].slice(1).forEach((row, i) => {
      row.classList.toggle("best", records[i] === best);
      if (records[i] === best) row.title = `the best ${words(name)}`;
      else row.removeAttribute("title");
    });
    show("epochs", records.length > 0);
  }

  function drawAbout() {
    byId("name").textContent = document.title = about.name;
    byId("recipe").textContent = `train ${about.recipe}`;
    byId("status").textContent = STATUS[about.status] ?? about.status;
    byId("status").className = ["finished", "interrupted", "diverged", "killed", "running"].includes(about.status) ? about.status : "";
    byId("headline").textContent = about.headline ?? "";
    byId("error").textContent = about.error ?? "";
    show("headline", about.headline !== null);
    show("error", about.error !== null);
    byId("sample").querySelector("pre").textContent = about.sample ?? "";
    show("sample", about.sample !== null);
    for (const part of ["config", "summary", "environment"]) {
      const rows = about[part].map(([name, text]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, text)));
      byId(part).querySelector("table").replaceChildren(element("tbody", {}, ...rows));
      show(part, rows.length > 0);
    }
  }

  function drawProblems(lost) {
    const problems = [...(lost ? [lost] : []), ...(about?.problems ?? []), ...lines.map(({ problem }) => problem).filter((text) => text !== null)];
    byId("problems").replaceChildren(...problems.map((text) => element("li", {}, text)));
    show("problems", problems.length > 0);
  }

  function drawFigures(figures) {
    byId("figures").querySelector(".panels").replaceChildren(...figures.map(({ name, caption, src, problem }) =>
      element("figure", { "data-name": name }, element("figcaption", {}, caption),
        src === undefined ? element("p", { class: "problem" }, problem) : element("img", { src, alt: caption }))));
    show("figures", figures.length > 0);
  }

  // ---- drawing it, once or again and again --------------------------------------------------------------------------

  let waiting = false;
  let rowsDrawn = 0;

  function draw() {
    if (waiting) return; // many events make one drawing
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (about) drawAbout();
      drawProblems();
      drawTiles();
      drawProgress();
      drawCurves();
      drawRows(rowsDrawn);
      rowsDrawn = lines.length;
    });
  }

  function forget() {
    lines = [];
    records = [];
    columns = [];
    rowsDrawn = 0;
    lastLine = null;
  }

  function follow() {
    byId("file").replaceChildren(" · ", element("a", { href: "/report" }, "this page as one file, which works offline"));
    const events = new EventSource("/events");
    const connection = (text, good) => {
      byId("connection").textContent = text;
      byId("connection").classList.toggle("live", good);
    };
    const on = (name, act) => events.addEventListener(name, (event) => act(JSON.parse(event.data)));
    connection("connecting", false);
    events.addEventListener("open", () => connection("live", true));
    events.addEventListener("error", () => {
      connection("no connection, trying again", false);
      if (events.readyState === EventSource.CLOSED) setTimeout(follow, 2000); // the browser tries again in other cases
    });
    on("reset", () => { forget(); draw(); });
    on("about", (told) => { about = told; draw(); });
    on("figures", drawFigures);
    on("lines", ({ lines: more, age }) => { take(more); lastLine = Date.now() - 1000 * age; draw(); });
    on("lost", (problem) => drawProblems(problem));
  }

  for (const id of ["headline", "error", "problems", "progress", "remaining", "curves", "figures", "sample", "epochs", "config", "summary", "environment"]) show(id, false);
  show("connection", live);
  let width = document.documentElement.clientWidth;
  addEventListener("resize", () => {
    if (width !== document.documentElement.clientWidth) drawCurves();
    width = document.documentElement.clientWidth;
  });
  if (live) {
    follow();
    setInterval(drawProgress, 1000);
  } else {
    about = embedded.about;
    take(embedded.lines);
    drawFigures(embedded.figures);
    draw();
  }
})();
