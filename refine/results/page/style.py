"""How the page looks, by day and by night, on a wide screen and on a narrow one."""

from __future__ import annotations

STYLE = """
.refine{--ground:#fff;--panel:#f6f7f9;--line:#dde1e7;--ink:#1b2430;--soft:#5a6675;
--heat:192 57 43;--own:#2f6db5;--relax:#d98e2b;--from:#b9c3cf;
--good:#1c7c44;--bad:#b3261e;--open:#8a6100;--other:#1f6f8b;
background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"Noto Sans",sans-serif;max-width:1080px;margin:0 auto;padding:24px 24px 48px;
box-sizing:border-box;overflow-wrap:anywhere}
@media (prefers-color-scheme:dark){.refine{--ground:#14181e;--panel:#1d232b;--line:#343c47;
--ink:#e6eaf0;--soft:#a3afbd;--heat:240 98 80;--own:#6aa5ea;--relax:#e6a44a;--from:#56616e;
--good:#5cc98a;--bad:#ff8a80;--open:#e7bf5c;--other:#66c2e0}}
.refine *{box-sizing:border-box}
.refine h1{font-size:22px;line-height:1.35;margin:10px 0 6px;font-weight:600}
.refine h2{font-size:17px;margin:0 0 4px;font-weight:600}
.refine h3{font-size:14px;margin:16px 0 4px;font-weight:600}
.refine p{margin:4px 0}
.refine .lead,.refine .note{color:var(--soft);font-size:13.5px;max-width:75ch}
.refine section{margin-top:32px}
.refine .badge{display:inline-block;padding:3px 12px;border-radius:14px;font-weight:600;
font-size:14px;color:var(--ground);background:var(--open)}
.refine .verified{background:var(--good)}.refine .violated{background:var(--bad)}
.refine .conditional{background:var(--other)}.refine .contradiction{background:var(--bad)}
.refine .warning{border-left:4px solid var(--bad);background:var(--panel);padding:8px 12px;
margin:12px 0}
.refine .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:10px;
margin:16px 0 4px}
.refine .tile{background:var(--panel);border:1px solid var(--line);border-radius:8px;
padding:10px 12px}
.refine .tile b{display:block;font-size:20px;font-weight:600;line-height:1.3}
.refine .tile span.of{color:var(--soft);font-size:13px}
.refine .n{font-variant-numeric:tabular-nums;overflow-wrap:normal}
.refine .wide{overflow-x:auto;margin:8px 0}
.refine table{border-collapse:collapse;width:100%;font-size:13.5px}
.refine th{text-align:left;font-weight:600;color:var(--soft);padding:4px 14px 4px 0;
border-bottom:1px solid var(--line);vertical-align:bottom;white-space:nowrap}
.refine td{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
.refine td:last-child,.refine th:last-child{padding-right:0}
.refine table td .n,.refine .tile .n,.refine .fixes .n{white-space:nowrap}
.refine .name{font-weight:600;min-width:9ch;display:inline-block}
.refine .bar{display:flex;height:10px;width:100%;min-width:110px;background:var(--panel);
border-radius:3px;overflow:hidden;margin-top:4px}
.refine .bar i{display:block;height:100%}
.refine .own{background:var(--own)}.refine .relax{background:var(--relax)}
.refine .from{background:var(--from)}
.refine .key{display:inline-flex;align-items:center;gap:6px;margin-right:16px;font-size:13px;
color:var(--soft)}
.refine .key i{width:12px;height:12px;border-radius:2px;display:inline-block}
.refine .fixes{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:10px;
margin-top:8px;padding:0;list-style:none}
.refine .fixes li{background:var(--panel);border:1px solid var(--line);border-radius:8px;
padding:10px 12px}
.refine .fixes b.n{font-size:18px}
.refine .drawing{overflow:auto;max-height:640px;border:1px solid var(--line);border-radius:8px;
margin-top:8px;padding:8px}
.refine svg{display:block;margin:0 auto}
.refine svg text{fill:var(--ink);font-size:12px;font-family:inherit}
.refine svg .sub{fill:var(--soft);font-size:11px}
.refine svg .box{fill:var(--ground);stroke:var(--line)}
.refine svg .heat{fill:rgb(var(--heat))}
.refine svg .edge{fill:none;stroke:var(--soft);stroke-width:1.2;opacity:.75}
.refine .cells{display:grid;grid-template-columns:repeat(auto-fill,minmax(86px,1fr));gap:4px;
margin-top:8px}
.refine .cell{position:relative;border:1px solid var(--line);border-radius:5px;padding:4px 6px;
font-size:13px;overflow:hidden}
.refine .cell::before{content:"";position:absolute;inset:0;background:rgb(var(--heat));
opacity:var(--v)}
.refine .cell>*{position:relative;display:block}
.refine .cell .where{color:var(--soft);font-size:11.5px}
.refine .scale{height:10px;width:160px;border-radius:3px;display:inline-block;
background:linear-gradient(90deg,rgb(var(--heat) / .06),rgb(var(--heat) / .6))}
.refine dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:8px 0;
font-size:13.5px}
.refine dt{color:var(--soft)}.refine dd{margin:0}
.refine details{margin:8px 0;font-size:13.5px}
.refine summary{cursor:pointer;color:var(--soft)}
.refine code{font:12.5px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}
@media (max-width:640px){.refine{padding:14px 14px 32px}.refine h1{font-size:18px}
.refine dl{grid-template-columns:1fr;gap:0}.refine dd{margin-bottom:8px}
.refine .drawing{max-height:440px}
.refine .layers thead{display:none}.refine .layers tr{display:grid;grid-template-columns:1fr 1fr;
gap:2px 14px;padding:8px 0;border-bottom:1px solid var(--line)}
.refine .layers td{border:0;padding:0}.refine .layers td:nth-child(3)::before{content:"range "}
.refine .layers td:nth-child(3){grid-column:1/3;color:var(--soft)}
.refine .layers td:nth-child(4)::before{content:"error "}
.refine .layers td:nth-child(5)::before{content:"part "}}
@media print{.refine .drawing{max-height:none;overflow:visible}.refine .wide{overflow:visible}}
"""
"""Everything is inside the class `refine`, so that a notebook around it stays as it is."""

PAGE = """
html{background:#fff}body{margin:0}
@media (prefers-color-scheme:dark){html{background:#14181e}}
"""
"""Around it, where it is a page of its own."""
