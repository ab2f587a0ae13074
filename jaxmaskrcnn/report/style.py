"""The page's style sheet, for light and dark displays and for phones."""

CSS = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2127; --muted: #59636e; --rule: #d8dee4; --shade: #f4f6f8;
  --c0: #0b66c3; --c1: #c2500a; --c2: #2b7d46;
  --cell: #0b66c3; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14181d; --ink: #e3e8ee; --muted: #9aa5b1; --rule: #353c45; --shade: #1d2229;
  --c0: #5aa9ff; --c1: #ff9a4d; --c2: #63c384;
  --cell: #1b63b0; --on: #e3e8ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main, header { max-width: 1180px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 28px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 20px 0 6px; }
p { margin: 6px 0 10px; max-width: 78ch; }
.muted, figcaption { color: var(--muted); }
a { color: var(--c0); }
nav { margin: 14px 0 0; display: flex; flex-wrap: wrap; gap: 4px 16px; }
.path { overflow-wrap: anywhere; font-size: 0.9rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 20px 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--shade); border: 1px solid var(--rule); border-radius: 8px;
  padding: 8px 14px; min-width: 104px; }
.tiles b { display: block; font-size: 1.35rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; max-width: 100%; }

.long { max-height: 620px; overflow-y: auto; }
.long thead th { position: sticky; top: 0; background: var(--paper); }
.scroll:focus-visible { outline: 2px solid var(--c0); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 4px 12px 4px 0; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
th:first-child, td.words { text-align: left; }
td.words { white-space: normal; min-width: 250px; max-width: 62ch; }
tbody tr:hover { background: var(--shade); }
.gauge { display: inline-block; vertical-align: middle; width: 90px; height: 9px; margin-left: 8px; }
.gauge i { display: block; height: 100%; background: var(--c1); border-radius: 2px; }
.row { display: flex; flex-wrap: wrap; gap: 12px 28px; align-items: flex-start; }
.grid4 { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px 12px; }
figure { margin: 10px 0; max-width: 100%; min-width: 0; }
.grid4 figure { margin: 0; }
figcaption { font-size: 0.9rem; overflow-wrap: anywhere; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--c0); }
svg { max-width: 100%; height: auto; display: block; }
.scroll svg { max-width: none; }
svg text { fill: var(--muted); font-size: 11.5px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .axis { stroke: var(--muted); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .dashed { stroke-dasharray: 5 4; }
svg .c0.line { stroke: var(--c0); } svg .c1.line { stroke: var(--c1); } svg .c2.line { stroke: var(--c2); }
svg .plain.line { stroke: var(--muted); stroke-width: 1; }
svg rect.c0 { fill: var(--c0); }
svg .c0.dot { fill: var(--c0); fill-opacity: .55; stroke: var(--c0); }
svg .cell { fill: var(--cell); } svg .empty { fill: var(--shade); }
svg .frame { fill: none; stroke: var(--rule); }
svg .cells text { fill: var(--ink); font-size: 12px; } svg .cells text.on { fill: var(--on); }
svg .tiny text { fill: var(--ink); font-size: 10px; }
.key { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 0.9rem; color: var(--muted);
  margin: 2px 0 0; padding: 0; list-style: none; }
.key i { display: inline-block; width: 20px; height: 0; border-top: 3px solid; margin-right: 6px;
  vertical-align: middle; }
.key .c0 { border-color: var(--c0); } .key .c1 { border-color: var(--c1); }
.key .c2 { border-color: var(--c2); } .key .plain { border-color: var(--muted); }
.key .dashed { border-top-style: dashed; }
.pair { display: flex; flex-wrap: wrap; gap: 6px; margin: 0 0 26px; }
.pair img { max-width: 100%; max-height: 520px; width: auto; height: auto; display: block;
  border-radius: 4px; background: var(--shade); }
.pair figcaption { flex: 1 0 100%; }
.pair div { max-width: calc(50% - 3px); }
@media (max-width: 640px) { .pair div { max-width: 100%; } th, td { padding-right: 8px; }
  td.words { min-width: 125px; } thead th { white-space: normal; } .gauge { display: none; } }
@media print { nav { display: none; } .pair { break-inside: avoid; } }
"""
