"use strict";
(async () => {
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = new Map(read("charts").map((chart) => [chart.id, chart]));
  const colours = read("colours");
  const hidden = new Set();

  // Light and dark ----------------------------------------------------------------------------------
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const toggle = document.getElementById("theme");
  const nameTheme = () => { toggle.textContent = isDark() ? "Light page" : "Dark page"; };
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
    drawAll();
  });
  prefersDark.addEventListener("change", () => { nameTheme(); drawAll(); });
  nameTheme();

  // Tables ------------------------------------------------------------------------------------------
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const missing = (key) => key === "–" || key === "" || Number.isNaN(key);
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const button of document.querySelectorAll("table.sortable thead button")) {
    const header = button.closest("th");
    button.addEventListener("click", () => {
      const direction = header.getAttribute("aria-sort") === "descending" ? "ascending" : "descending";
      for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", direction);
      const body = header.closest("table").tBodies[0];
      const rows = [...body.rows].map((row) => [row, keyOf(row, header.cellIndex)]);
      rows.sort(([, a], [, b]) => {
        if (missing(a) || missing(b)) return missing(a) - missing(b); // what is missing comes last in either direction
        return direction === "ascending" ? compare(a, b) : compare(b, a);
      });
      body.append(...rows.map(([row]) => row));
    });
  }

  // Films -------------------------------------------------------------------------------------------
  for (const button of document.querySelectorAll("button.play")) {
    const films = [...button.closest(".films").querySelectorAll("video")];
    const name = () => {
      const playing = films.some((film) => !film.paused && !film.ended);
      button.textContent = playing ? "Pause all" : "Play all from the start";
    };
    for (const film of films) for (const event of ["play", "pause", "ended"]) film.addEventListener(event, name);
    button.addEventListener("click", () => {
      if (films.some((film) => !film.paused && !film.ended)) return films.forEach((film) => film.pause());
      for (const film of films) {
        film.currentTime = 0;
        film.play().catch(() => {});
      }
    });
  }

  // Figures -----------------------------------------------------------------------------------------
  async function loadPlotly() {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }
  const paint = (data) => {
    let text = JSON.stringify(data);
    if (isDark()) colours.light.forEach((light, i) => { text = text.replaceAll(`"${light}"`, `"${colours.dark[i]}"`); });
    return JSON.parse(text);
  };
  const dress = (layout) => {
    const style = getComputedStyle(root);
    const [ink, soft, grid, panel] = ["--ink", "--soft", "--grid", "--panel"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: grid, linecolor: grid, zerolinecolor: grid, tickfont: { color: soft, size: 12 } };
    const touch = matchMedia("(pointer: coarse)").matches;
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
      dragmode: touch ? false : "zoom", // a finger scrolls the page
      hoverlabel: { bgcolor: panel, bordercolor: soft, font: { color: ink }, namelength: -1 },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
      shapes: (layout.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: ink } })),
    };
  };
  const shown = (trace) => !hidden.has(trace.meta && trace.meta.agent);
  function draw(figure) {
    const chart = charts.get(figure.dataset.chart);
    const view = chart.views[Number(figure.dataset.view)];
    const place = figure.querySelector(".panels");
    place.setAttribute("aria-label", view.label);
    while (place.children.length < view.panels.length) place.append(Object.assign(document.createElement("div"), { className: "plot" }));
    view.panels.forEach((panel, i) => {
      const data = paint(panel.data.filter(shown));
      window.Plotly.react(place.children[i], data, dress(structuredClone(panel.layout)), { displayModeBar: false, responsive: true });
    });
  }
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  function drawAll() {
    if (window.Plotly) figures.filter((figure) => figure.dataset.drawn).forEach(draw);
  }
  for (const figure of figures) {
    for (const button of figure.querySelectorAll(".views button")) {
      button.addEventListener("click", () => {
        figure.dataset.view = button.dataset.view;
        for (const other of figure.querySelectorAll(".views button")) other.setAttribute("aria-pressed", String(other === button));
        draw(figure);
      });
    }
  }
  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const agent = button.dataset.agent;
      hidden.has(agent) ? hidden.delete(agent) : hidden.add(agent);
      for (const other of document.querySelectorAll(".legend button")) {
        if (other.dataset.agent === agent) other.setAttribute("aria-pressed", String(!hidden.has(agent)));
      }
      drawAll();
    });
  }
  if (!figures.length) return;
  try {
    await loadPlotly();
  } catch (error) {
    for (const figure of figures) figure.querySelector(".panels").textContent = `This browser can't draw the figure (${error.message}): see the files in figures/.`;
    return;
  }
  for (const figure of figures) {
    draw(figure);
    figure.dataset.drawn = "yes";
    await new Promise((done) => setTimeout(done)); // the page stays usable meanwhile
  }
  root.dataset.ready = "yes";
})();
