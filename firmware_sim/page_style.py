"""How the page looks, in light and dark, on a desk and on a phone; and the little it does where JavaScript runs."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #f6f7f9; --card: #fff; --rule: #d9dee4;
  --a: #0b62c4; --b: #c2410c; --c: #0f7b5f; --d: #8250df; --e: #9a6700; --f: #6e7781; --good: #0f7b5f; --bad: #c81e4a; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #e8ecf0; --soft: #9da7b1; --paper: #0e1116; --card: #171b21; --rule: #30363d;
  --a: #6cb2ff; --b: #ff9a5c; --c: #4fd1a5; --d: #c3a1ff; --e: #e6c04b; --f: #9da7b1; --good: #4fd1a5; --bad: #ff6b8e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header, main { max-width: 1240px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1rem; margin: 0; color: var(--soft); font-weight: 600; }
h2 { font-size: 1.1rem; margin: 0 0 4px; } h3 { font-size: 1rem; margin: 16px 0 4px; }
header p { margin: 6px 0; max-width: 70ch; }
.headline { font-size: clamp(1.25rem, 3.2vw, 1.8rem); line-height: 1.3; font-weight: 650; border-left: 6px solid var(--bad);
  padding-left: 14px; margin: 10px 0 14px; max-width: 44ch; }
.headline.good { border-color: var(--good); }
.conditions, section > p { color: var(--soft); font-size: .9rem; margin: 0 0 8px; }
.figures { columns: 2 480px; column-gap: 16px; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 14px; min-width: 0;
  margin: 0 0 16px; break-inside: avoid; }
.wide { column-span: all; margin-top: 16px; }
.wide > svg { max-width: 620px; }
.half { display: inline-block; width: min(100%, 480px); vertical-align: top; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg text.small { fill: var(--soft); font-size: 11.5px; }
.grid { stroke: var(--rule); fill: none; } .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
.line.flat { stroke-dasharray: 3 5; } .bar { fill: var(--a); }
.line.a { stroke: var(--a); } .line.b { stroke: var(--b); } .line.c { stroke: var(--c); }
.line.d { stroke: var(--d); } .line.e { stroke: var(--e); } .line.f { stroke: var(--f); }
.key { display: inline-block; width: 18px; height: 4px; margin-right: 6px; vertical-align: middle; }
.key.a { background: var(--a); } .key.b { background: var(--b); } .key.c { background: var(--c); }
.key.d { background: var(--d); } .key.e { background: var(--e); } .key.f { background: var(--f); }
.key.good { background: var(--good); } .key.bad { background: var(--bad); } .key.foiled { background: var(--soft); }
.link { stroke: var(--a); stroke-opacity: .55; fill: none; }
.agent { fill: var(--c); stroke: var(--card); } .agent.down { fill: var(--f); } .agent.foe { fill: var(--bad); }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; background: var(--c); }
.dot.down { background: var(--f); } .dot.foe { background: var(--bad); }
.mark { stroke-width: 2; stroke: var(--good); } .mark.bad { stroke: var(--bad); stroke-width: 3; }
.mark.foiled { stroke: var(--soft); }
#heat { image-rendering: pixelated; } #map { cursor: crosshair; }
output { display: block; min-height: 1.5em; font-size: .9rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; font-size: .9rem; }
.scroll { overflow-x: auto; margin-top: 6px; } table { border-collapse: collapse; font-size: .88rem; width: 100%; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--rule); vertical-align: top;
  overflow-wrap: normal; }
th { color: var(--soft); font-weight: 600; } td:not(:last-child) { white-space: nowrap; } td:last-child { min-width: 13em; }
#agents td:last-child { min-width: 0; white-space: nowrap; }
summary { cursor: pointer; padding: 4px 0; } :focus-visible { outline: 3px solid var(--a); outline-offset: 2px; }
input { font: inherit; padding: 4px 8px; margin: 6px 0; max-width: 100%; color: inherit; background: var(--paper);
  border: 1px solid var(--rule); border-radius: 6px; }
@media (max-width: 560px) { svg text { font-size: 17px; } svg text.small { font-size: 15px; }
  td:not(:last-child) { white-space: normal; } td:last-child { min-width: 9em; } header, main { padding: 10px; } }
@media print { section { break-inside: avoid; } }
"""

# Foreign names reach the page as text alone: by textContent, from JSON.
SCRIPT = """
"use strict";
const filter = document.getElementById("filter");
filter.parentElement.hidden = false;
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  for (const row of document.querySelectorAll("#agents tbody tr")) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
const held = document.getElementById("data");
if (held) {
  const data = JSON.parse(held.textContent), n = data.tasks.length, map = document.getElementById("map");
  const bytes = Uint8Array.from(atob(data.cells), c => c.charCodeAt(0)), said = document.getElementById("cell");
  let row = 0, column = 0;
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  const tell = () => {
    const at = 2 * (row * n + column), value = bytes[at] + 256 * bytes[at + 1];
    const when = value === 65535 ? "never" : "at " + (value / 65534 * data.last).toFixed(1) + " s";
    said.textContent = data.agents[row] + " · " + data.tasks[column] + ": " + when;
  };
  map.addEventListener("pointermove", event => {
    const box = document.getElementById("heat").getBoundingClientRect();
    column = within(Math.floor((event.clientX - box.left) / box.width * n), n);
    row = within(Math.floor((event.clientY - box.top) / box.height * data.agents.length), data.agents.length);
    tell();
  });
  said.textContent = "Point at a cell, or go there with the arrow keys.";
  map.addEventListener("keydown", event => {
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    row = within(row + way[0], data.agents.length);
    column = within(column + way[1], n);
    tell();
  });
}
"""
