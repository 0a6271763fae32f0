"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Sorting: a button in each heading of a table.sorts; cells may carry their value in data-v, empty cells stay last.
const keyOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v ?? cell.textContent.trim();
};
for (const table of all("table.sorts")) {
  all("thead th", table).forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of all("thead th", table)) other.setAttribute("aria-sort", other === heading ? (up ? "ascending" : "descending") : "none");
      const rows = [...table.tBodies[0].rows];
      rows.sort((first, second) => {
        const [a, b] = [keyOf(first, column), keyOf(second, column)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// Filtering: data-u and data-t are the numbers of upstream and task; data-row marks what the text is looked for in.
const form = document.querySelector("form");
const filter = () => {
  const { text, upstream, task } = form.elements, words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const element of all("[data-u], [data-t]")) {
    const other = (select, number) => select.value !== "" && number !== undefined && number !== select.value;
    const content = element.hasAttribute("data-row") && words.length ? element.textContent.toLowerCase() : "";
    const hidden = other(upstream, element.dataset.u) || other(task, element.dataset.t) || (content !== "" && !words.every((word) => content.includes(word)));
    element.toggleAttribute("hidden", hidden); // elements of SVG have no property of that name
  }
  for (const part of all(".set")) part.hidden ||= all("[data-u]", part).every((element) => element.hasAttribute("hidden"));
  const rows = all(".board tbody tr");
  form.elements.shown.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows of the leaderboards shown`;
};
form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("reset", () => setTimeout(filter));
form.addEventListener("submit", (event) => event.preventDefault());
filter();

// The tooltip of a confusion follows from its place.
for (const table of all("table.counts")) {
  for (const row of table.tBodies[0].rows) {
    const cells = [...row.cells].slice(1).filter((cell) => cell.textContent), whole = cells.reduce((sum, cell) => sum + +cell.textContent, 0);
    for (const cell of cells) {
      const answer = table.tHead.rows[0].cells[cell.cellIndex].textContent;
      cell.dataset.tip = `${row.cells[0].textContent} answered as ${answer}: ${cell.textContent} of ${whole}`;
    }
  }
}

// Tooltips: of the element under the pointer or the focus; Escape hides them.
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);
let owner = null;
const hide = () => {
  owner?.removeAttribute("aria-describedby");
  owner = null;
  tip.hidden = true;
};
const place = () => {
  const box = owner.getBoundingClientRect(), own = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(box.left, document.documentElement.clientWidth - own.width - 4))}px`;
  tip.style.top = `${box.bottom + own.height + 4 > innerHeight ? Math.max(4, box.top - own.height) : box.bottom}px`;
};
const show = (event) => {
  const target = event.target.closest?.("[data-tip]");
  if (target === owner || tip.contains(event.target)) return;
  hide();
  if (!target) return;
  owner = target;
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  target.setAttribute("aria-describedby", "tip");
  place();
};
document.addEventListener("pointerover", show);
document.addEventListener("focusin", show);
document.addEventListener("scroll", () => owner && (owner.matches(":hover, :focus") ? place() : hide()), true);
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

// The cells of a heatmap are one stop of the tab key; arrows move among them.
for (const table of all("table.moves")) {
  const cells = all("td[data-tip]", table);
  cells.forEach((cell, number) => (cell.tabIndex = number ? -1 : 0));
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || !cells.includes(event.target)) return;
    event.preventDefault();
    let [row, column] = [event.target.parentElement.rowIndex, event.target.cellIndex], next;
    do next = table.rows[(row += step[0])]?.cells[(column += step[1])];
    while (next && (next.hidden || !cells.includes(next)));
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

// A link into closed details opens them; paper shows them all.
const open = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", open);
open();
let closed = [];
addEventListener("beforeprint", () => (closed = all("details:not([open])")).forEach((part) => (part.open = true)));
addEventListener("afterprint", () => closed.forEach((part) => (part.open = false)));
