// SPDX-License-Identifier: GPL-2.0-or-later
// The page works without this: nodes of the graph are links to what is folded below. Nothing is made from text here;
// what is shown is cloned from elements that are there.
"use strict";
(() => {
  const open = (id, move) => {
    const found = id && document.getElementById(id);
    if (!found) return;
    for (let part = found; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (move) found.scrollIntoView();
  };
  const target = () => decodeURIComponent(location.hash.slice(1));
  addEventListener("hashchange", () => open(target(), true));
  open(target(), true);

  // printing shows everything
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));

  const picture = document.querySelector(".picture");
  const svg = picture && picture.querySelector("svg");
  const evidence = document.getElementById("evidence");
  if (svg) {
    const width = Number(svg.getAttribute("width")), height = Number(svg.getAttribute("height"));
    let scale = 1;
    const zoom = document.querySelector(".zoom");
    zoom.hidden = false;
    zoom.addEventListener("click", (event) => {
      const by = event.target.dataset && event.target.dataset.zoom;
      if (by === undefined) return;
      picture.classList.toggle("whole", by === "0");
      scale = by === "0" ? 1 : Math.min(Math.max(scale * Number(by), 0.25), 4);
      svg.setAttribute("width", Math.round(width * scale));
      svg.setAttribute("height", Math.round(height * scale));
    });
    svg.addEventListener("click", (event) => {
      const node = event.target.closest("a.node");
      if (!node) return;
      const found = document.getElementById(node.getAttribute("href").slice(1));
      if (!found || !evidence) return;
      event.preventDefault();
      svg.querySelectorAll(".chosen").forEach((part) => part.classList.remove("chosen"));
      node.classList.add("chosen");
      const name = node.dataset.node;
      svg.querySelectorAll(".edge").forEach((edge) => {
        edge.classList.toggle("chosen", edge.dataset.source === name || edge.dataset.target === name);
      });
      const title = document.createElement("h3");
      const link = document.createElement("a");
      link.href = node.getAttribute("href");
      link.textContent = node.querySelector("title").textContent;
      title.append(link);
      const inside = found.querySelector(".inside, .beside");
      const copy = inside.cloneNode(true);
      copy.querySelectorAll("[id]").forEach((part) => part.removeAttribute("id"));
      copy.classList.remove("inside");
      evidence.replaceChildren(title, copy);
      evidence.hidden = false;
    });
  }

  // a search field over a table, and links that keep only rows of one kind
  document.querySelectorAll("input[data-filter]").forEach((input) => {
    const table = document.getElementById(input.dataset.filter);
    const said = input.closest(".filter").querySelector("output");
    input.closest(".filter").hidden = false;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      table.querySelectorAll("tbody tr").forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        if (!row.hidden) shown += 1;
      });
      said.textContent = words.length ? `${shown} shown` : "";
    });
  });
})();
