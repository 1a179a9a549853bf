"use strict";
// Draws the figures from the JSON beside them, in the colours of the page, and sorts tables.
(() => {
  const NARROW = 560; // px: a phone
  const LEGEND_ROW = 22; // px of plotly's horizontal legend
  const BESIDE = 140; // px of a figure's width that are no plot: names of rows and margins
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // ---- figures

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  /** The layout with what only the page knows: its colours, and how many rows the legend takes at this width. */
  function fitted(plot, width) {
    const layout = structuredClone(plot.layout);
    const [text, grid, line, page] = ["--text", "--grid", "--line", "--page"].map(color);
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { ...layout.font, color: text };
    layout.hoverlabel = { bgcolor: color("--panel"), bordercolor: line, font: { color: text } };
    layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      Object.assign(layout[key], { gridcolor: grid, linecolor: line, zerolinecolor: line });
    }
    for (const mark of layout.annotations ?? []) mark.bgcolor = page;
    if (width < NARROW) {
      layout.font.size = 12;
      if (layout.xaxis.nticks) layout.xaxis.nticks = 4;
    }
    makeRoomForLegend(plot, layout, width);
    return layout;
  }

  function makeRoomForLegend(plot, layout, width) {
    const names = plot.data.filter((trace) => trace.showlegend !== false && trace.name).map((trace) => trace.name);
    if (!layout.showlegend || !names.length) return;
    const entry = 50 + 7.5 * Math.max(...names.map((name) => Math.min(name.length, 40)));
    const columns = width < NARROW ? 1 : Math.max(1, Math.floor((width - BESIDE) / entry));
    const rows = Math.ceil(names.length / columns);
    layout.legend.entrywidth = columns > 1 ? entry - 50 : width - 90;
    layout.height += rows * LEGEND_ROW;
    layout.margin.b += rows * LEGEND_ROW + 8;
  }

  const drawn = [];

  function draw(figure) {
    const plot = figure.plots[figure.view];
    const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
    if (figure.box.clientWidth < NARROW) config.displayModeBar = false;
    return Plotly.react(figure.box, structuredClone(plot.data), fitted(plot, figure.box.clientWidth), config);
  }

  for (const box of document.querySelectorAll(".plot")) {
    const name = box.id.slice("plot-".length);
    const plots = JSON.parse(document.getElementById(`data-${name}`).textContent);
    const figure = { box, plots, view: 0, width: box.clientWidth };
    drawn.push(figure);
    draw(figure);
    const choice = document.querySelector(`select[data-for="${name}"]`);
    choice?.addEventListener("change", () => {
      figure.view = Number(choice.value);
      draw(figure);
    });
  }

  const drawAll = () => drawn.forEach(draw);
  dark.addEventListener("change", drawAll);
  matchMedia("print").addEventListener("change", drawAll); // paper is light

  let waiting = 0;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const figure of drawn) {
        if (figure.box.clientWidth === figure.width) continue; // a phone's address bar came or went
        figure.width = figure.box.clientWidth;
        draw(figure);
      }
    }, 150);
  });

  // ---- tables

  /** Numbers before text, what is missing last whichever way is up. */
  function compare(a, b, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a), Number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return sign * a.localeCompare(b, "en", { numeric: true });
    return sign * (x - y);
  }

  function sort(table, column) {
    const heads = [...table.tHead.rows[0].cells];
    const isNumber = heads[column].classList.contains("number");
    const now = heads[column].getAttribute("aria-sort");
    const first = isNumber ? "descending" : "ascending";
    const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
    heads.forEach((head, place) => head.setAttribute("aria-sort", place === column ? next : "none"));
    const key = (row) => row.cells[column].dataset.key;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(key(a), key(b), next === "ascending" ? 1 : -1));
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, column));
    });
  }
})();
