// Plots: drawn when they come into view, again when the theme or the width of their place changes.
"use strict";
(function () {
  var overview = auscult.json("overview"), catalogue = auscult.json("catalogue");
  var SETS = { dev: "development set", eval: "evaluation set", all: "mean of both sets" };
  var HOW = { pooled: "pooled", per_unit: "per unit, then averaged" };
  var COSTS = {
    parameters: "parameters", macs_per_clip: "multiply-accumulates per clip", train_seconds: "seconds of training",
    clips_per_second: "clips embedded per second", peak_memory_mib: "peak memory of training (MiB)"
  };
  var DASHES = ["solid", "dash", "dot", "dashdot"], SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "triangle-down", "pentagon", "star"];
  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim(); }
  function series(index) { return getComputedStyle(document.documentElement).getPropertyValue("--c" + index % 8).trim(); }
  function narrow(element) { return element.clientWidth < 520; }
  function wrap(text, width) {
    return text.split(" ").reduce(function (lines, word) {
      var last = lines[lines.length - 1];
      if (last && (last + " " + word).length <= width) lines[lines.length - 1] = last + " " + word; else lines.push(word);
      return lines;
    }, []).join("<br>");
  }
  function show(value) { return value === null || value === undefined ? "–" : String(value); }

  // ------------------------------------------------------------------------------------------- one look for every plot
  function axis(more) {
    return Object.assign({
      gridcolor: colour("grid"), zerolinecolor: colour("grid"), linecolor: colour("soft"), tickcolor: colour("soft"),
      automargin: true, showline: true, ticks: "outside", ticklen: 4, fixedrange: true
    }, more, { title: { text: (more || {}).name || "", standoff: 8, font: { size: 13 } } });
  }
  function layout(more) {
    return Object.assign({
      paper_bgcolor: colour("paper"), plot_bgcolor: colour("paper"), font: { color: colour("ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 54, r: 14, t: 12, b: 46 }, hovermode: "closest", dragmode: false,
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("ink") } },
      legend: { orientation: "h", x: 0, y: -0.18, yanchor: "top", font: { size: 12 } }
    }, more);
  }
  var CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };
  var library = null;
  function plotly() { return library || (library = auscult.script("assets/plotly.min.js")); }
  function draw(element, traces, shape) {
    return plotly().then(function () { return Plotly.react(element, traces, layout(shape), CONFIG); }).then(function () {
      element.style.minHeight = "0";
      element.dataset.drawn = String(Number(element.dataset.drawn || 0) + 1);
    });
  }

  // ---------------------------------------------------------------------------------------------------- lazy, and again
  var painters = {}, visible = new Set(), stale = new Set();
  function paint(element) {
    stale.delete(element);
    var painter = painters[element.dataset.plot];
    if (painter) Promise.resolve(element).then(painter).catch(function (error) { console.error(error); element.textContent = error.message; });
  }
  var watcher = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (entry.isIntersecting) { visible.add(entry.target); if (stale.has(entry.target)) paint(entry.target); }
      else visible.delete(entry.target);
    });
  }, { rootMargin: "300px" });
  function refresh(names) {
    document.querySelectorAll("[data-plot]").forEach(function (element) {
      if (names && names.indexOf(element.dataset.plot) < 0) return;
      stale.add(element);
      if (visible.has(element)) paint(element);
    });
  }
  document.querySelectorAll("[data-plot]").forEach(function (element) { stale.add(element); watcher.observe(element); });
  document.addEventListener("themechange", function () { refresh(); });
  window.addEventListener("beforeprint", function () { refresh(); });
  var width = window.innerWidth, timer = 0;
  window.addEventListener("resize", function () {
    if (window.innerWidth === width) return;  // a phone's address bar that slides away
    width = window.innerWidth;
    clearTimeout(timer);
    timer = setTimeout(function () { refresh(); }, 200);
  });

  // -------------------------------------------------------------------------------------------------- quality and cost
  var choice = document.getElementById("cost-choice");
  function measure() {
    var f = choice.elements;
    return Object.keys(overview.measures).filter(function (key) {
      var m = overview.measures[key];
      return m.name === f.measure.value && m.set === f.set.value && m.how === f.how.value;
    })[0];
  }
  function narrowMeasures() {
    var f = choice.elements, all = Object.values(overview.measures);
    auscult.fill(f.measure, auscult.unique(all.map(function (m) { return m.name; })));
    all = all.filter(function (m) { return m.name === f.measure.value; });
    auscult.fill(f.set, auscult.unique(all.map(function (m) { return m.set; })), undefined, SETS);
    all = all.filter(function (m) { return m.set === f.set.value; });
    var hows = auscult.unique(all.map(function (m) { return m.how; }));
    auscult.fill(f.how, hows, f.how.value || "per_unit", HOW);
  }
  if (choice) {
    narrowMeasures();
    choice.addEventListener("change", function () { narrowMeasures(); refresh(["cost", "ranking"]); });
  }
  function measureName() { return overview.measures[measure()].name + " (%)"; }
  painters.cost = function (element) {
    var key = measure(), cost = choice.elements.cost.value, more = cost === "clips_per_second";
    var arms = overview.arms.filter(function (a) { return a.values[key] && a.costs[cost] !== null; });
    var left = overview.arms.filter(function (a) { return a.values[key]; }).length - arms.length;
    if (!arms.length) { return draw(element, [], { xaxis: { visible: false }, yaxis: { visible: false }, annotations: [{ text: "no arm has both numbers", showarrow: false, font: { size: 14 } }] }); }
    var positive = arms.map(function (a) { return a.costs[cost]; }).filter(function (v) { return v > 0; });
    var zero = arms.some(function (a) { return a.costs[cost] <= 0; }), floor = (positive.length ? Math.min.apply(null, positive) : 1) / 5;
    function x(a) { return a.costs[cost] > 0 ? a.costs[cost] : floor; }
    var sorted = arms.slice().sort(function (a, b) { return (more ? x(b) - x(a) : x(a) - x(b)) || b.values[key][0] - a.values[key][0]; });
    var best = -Infinity, front = sorted.filter(function (a) { var better = a.values[key][0] > best; if (better) best = a.values[key][0]; return better; });
    var groups = auscult.unique(arms.map(function (a) { return a.group; })), many = groups.length > 1;
    var traces = [{ x: front.map(x), y: front.map(function (a) { return a.values[key][0]; }), mode: "lines", line: { color: colour("soft"), width: 1.5, dash: "dot", shape: more ? "vh" : "hv" }, hoverinfo: "skip", showlegend: false }];
    groups.forEach(function (group, index) {
      var of = arms.filter(function (a) { return a.group === group; });
      traces.push({
        x: of.map(x), y: of.map(function (a) { return a.values[key][0]; }), name: wrap(group, narrow(element) ? 40 : 76), mode: "markers", type: "scatter",
        marker: { size: 10, color: series(index), symbol: SYMBOLS[(index + Math.floor(index / 8)) % 8], line: { color: colour("paper"), width: 1 } }, showlegend: many,
        customdata: of.map(function (a) { return [a.name, show(a.costs[cost] === null ? null : Number(a.costs[cost].toPrecision(4)).toLocaleString("en")), show(a.values[key][1]), show(a.values[key][2])]; }),
        hovertemplate: "<b>%{customdata[0]}</b><br>%{y:.1f} [%{customdata[2]}, %{customdata[3]}]<br>" + COSTS[cost] + ": %{customdata[1]}<extra></extra>"
      });
    });
    // Names of the front on the side where no other arm can be: none is cheaper and better. Of the others below their points where
    // there are few; of many they speak when pointed at.
    var logs = sorted.map(function (a) { return Math.log10(x(a)); }), low = Math.min.apply(null, logs), high = Math.max.apply(null, logs), room = Math.max(high - low, 0.5);
    var values = arms.map(function (a) { return a.values[key][0]; }), bottom = Math.min.apply(null, values), top = Math.max.apply(null, values), tall = Math.max(top - bottom, 2), taken = [];
    var notes = [];
    front.slice().reverse().concat(arms.length > 8 ? [] : sorted.filter(function (a) { return front.indexOf(a) < 0; })).forEach(function (a) {
      var at = Math.log10(x(a)), y = a.values[key][0], ahead = front.indexOf(a) >= 0, right = more ? (at - low) / room > 0.75 : (at - low) / room > 0.2;
      if (taken.some(function (b) { return Math.abs(b[1] - y) < tall * 0.06 && Math.abs(b[0] - at) < room * 0.45; })) return;
      taken.push([at, y]);
      notes.push({ x: at, y: y, text: a.name, showarrow: false, xanchor: right ? "right" : "left", xshift: right ? -9 : 9, yanchor: ahead ? "bottom" : "top", yshift: ahead ? 2 : -2, font: { size: narrow(element) ? 11 : 12, color: colour("ink") }, bgcolor: colour("paper"), borderpad: 0 });
    });
    var ticks = { type: "log", name: COSTS[cost] + (zero ? " (logarithmic; 0 at the left)" : " (logarithmic)"), range: [low - room * 0.08, high + room * 0.08], dtick: 1, exponentformat: "SI" };
    if (zero) {
      var from = Math.ceil(Math.log10(floor * 2)), marks = [floor], texts = ["0"];
      for (var p = from; p <= Math.floor(high + room * 0.08); p++) { marks.push(Math.pow(10, p)); texts.push(p >= 3 ? { 3: "1k", 4: "10k", 5: "100k", 6: "1M", 7: "10M", 8: "100M", 9: "1G", 10: "10G", 11: "100G", 12: "1T" }[p] || "1e" + p : String(Math.pow(10, p))); }
      Object.assign(ticks, { tickmode: "array", tickvals: marks, ticktext: texts });
    }
    document.getElementById("cost-left").textContent = left ? left + (left === 1 ? " arm has" : " arms have") + " no such cost, and no point." : "";
    return draw(element, traces, {
      height: 440 + (many ? groups.length * (narrow(element) ? 34 : 21) : 0), annotations: notes, showlegend: many, margin: { l: 54, r: 14, t: 24, b: 46 },
      legend: { orientation: "h", x: 0, y: -0.2, yanchor: "top", font: { size: 11 } },
      xaxis: axis(ticks), yaxis: axis({ name: measureName(), range: [bottom - tall * 0.08, top + tall * 0.14] })
    });
  };
  painters.ranking = function (element) {
    var key = measure();
    var arms = overview.arms.filter(function (a) { return a.values[key]; }).sort(function (a, b) { return a.values[key][0] - b.values[key][0]; });
    var value = arms.map(function (a) { return a.values[key][0]; });
    function bound(side, sign) { return arms.map(function (a) { return a.values[key][side] === null ? 0 : sign * (a.values[key][side] - a.values[key][0]); }); }
    var names = arms.map(function (a) { return a.name; });
    return draw(element, [{
      x: value, y: names, mode: "markers", type: "scatter", marker: { color: colour("c0"), size: 8 },
      error_x: { type: "data", symmetric: false, array: bound(2, 1), arrayminus: bound(1, -1), color: colour("c0"), thickness: 1.4, width: 0 },
      hovertemplate: "<b>%{y}</b><br>%{x:.1f} [%{customdata[1]}, %{customdata[2]}]<extra></extra>", customdata: arms.map(function (a) { return a.values[key].map(show); })
    }], { height: Math.max(260, 80 + 19 * arms.length), showlegend: false, xaxis: axis({ name: measureName() }), yaxis: axis({ type: "category", tickfont: { size: narrow(element) ? 10 : 11 }, ticks: "", showgrid: true, dtick: 1, range: [-0.7, arms.length - 0.3] }) });
  };

  // ------------------------------------------------------------------------------------------------------------ one arm
  var form = document.getElementById("arm-choice"), status = document.getElementById("arm-status");
  function entry(name) { return catalogue.arms.filter(function (a) { return a.name === name; })[0]; }
  function data(name) { return auscult.load("arm/" + name, entry(name).file); }
  function current() { return data(form.elements.arm.value); }
  function groupsOf(arm) { var of = arm.groups[form.elements.set.value] || {}; return of[form.elements.machine.value] || []; }
  function label(group) { return group.unit === "" ? "all units pooled" : /domain$/.test(group.unit) ? group.unit : "unit " + group.unit; }
  function update() {
    return current().then(function (arm) {
      var f = form.elements;
      auscult.fill(f.set, Object.keys(arm.groups), undefined, SETS);
      auscult.fill(f.machine, Object.keys(arm.groups[f.set.value]));
      status.textContent = "Judged by: " + arm.score + ". Training seed " + arm.seed + ".";
      decisions(groupsOf(arm));
      document.getElementById("training").hidden = !Object.keys(arm.training).length;  // nothing by gradient, or no history here
      refresh(["roc", "histograms", "training"]);
    }, function (error) { status.textContent = error.message; });
  }
  function decisions(groups) {
    var body = document.querySelector("#decisions tbody");
    body.replaceChildren.apply(body, groups.map(function (g) {
      var row = document.createElement("tr"), head = document.createElement("th");
      head.scope = "row"; head.textContent = label(g); row.append(head);
      [[g.auc, 1, ""], [g.alarms, 1, " %"], [g.found, 1, " %"], [g.threshold, null, ""], [g.clips[0] + g.clips[1], 0, ""]].forEach(function (item) {
        var cell = document.createElement("td");
        if (item[0] !== undefined && item[0] !== null) {
          cell.dataset.v = item[0];
          cell.textContent = (item[1] === null ? Number(item[0].toPrecision(4)) : item[0].toFixed(item[1])) + item[2];
        } else cell.textContent = "–";
        row.append(cell);
      });
      return row;
    }));
    document.querySelectorAll("#decisions thead th").forEach(function (heading) { heading.setAttribute("aria-sort", "none"); });
  }
  painters.roc = function (element) {
    var other = form.elements.other.value;
    return Promise.all([current(), other ? data(other) : null]).then(function (both) {
      var traces = [{ x: [0, 1], y: [0, 1], mode: "lines", line: { color: colour("soft"), dash: "dot", width: 1 }, hoverinfo: "skip", showlegend: false }];
      both.forEach(function (arm, second) {
        groupsOf(arm || { groups: {} }).forEach(function (g, index) {
          if (!g.roc || (second && index > 0)) return;
          var pooled = index === 0 && g.unit === "";
          traces.push({
            x: g.roc[0], y: g.roc[1], mode: "lines", name: (second ? arm.arm + ", " : "") + label(g) + " (" + g.auc.toFixed(1) + ")",
            line: { width: pooled || second ? 3 : 1.7, color: second ? colour("c6") : pooled ? colour("ink") : series(index - 1 + (groupsOf(arm)[0].unit === "" ? 0 : 1)), dash: second ? "dash" : pooled ? "solid" : DASHES[Math.floor(index / 8) % 4] },
            hovertemplate: "%{x:.2f}, %{y:.2f}<extra>" + label(g) + "</extra>"
          });
        });
      });
      var empty = traces.length === 1;
      return draw(element, traces, {
        height: 430 + 20 * Math.ceil((traces.length - 1) / (narrow(element) ? 1 : 2)), xaxis: axis({ name: "false positive rate", range: [-0.01, 1.01] }), yaxis: axis({ name: "true positive rate", range: [-0.01, 1.01] }),
        annotations: empty ? [{ text: "no labelled clips of both classes", showarrow: false, x: 0.5, y: 0.5 }] : []
      });
    });
  };
  function panels(element, count) {
    while (element.children.length > count) { if (window.Plotly) Plotly.purge(element.lastChild); element.lastChild.remove(); }
    while (element.children.length < count) { element.append(document.createElement("div")); }
    return Array.from(element.children);
  }
  function nothing(element, text) {
    panels(element, 0);
    var note = document.createElement("p");
    note.className = "note"; note.textContent = text;
    element.replaceChildren(note);
  }
  painters.histograms = function (element) {
    return current().then(function (arm) {
      var groups = groupsOf(arm).filter(function (g) { return g.edges; });
      if (!groups.length) return nothing(element, "No labelled clips of this machine.");
      if (element.querySelector("p")) element.replaceChildren();
      return Promise.all(panels(element, groups.length).map(function (panel, at) {
        var g = groups[at], text = { normal: "normal", anomaly: "anomalous" };
        // Points of a class lie at three heights in turn, so that equal scores do not hide each other.
        function points(name, row) { return { x: g[name], y: g[name].map(function (_, i) { return row + (i % 3 - 1) * 0.18; }), type: "scatter", mode: "markers", name: text[name], marker: { size: 8, opacity: 0.75, color: colour(name === "normal" ? "c0" : "c1"), symbol: name === "normal" ? "circle" : "x" }, hovertemplate: "%{x}<extra>" + text[name] + "</extra>" }; }
        function bars(name) { var step = (g.edges[1] - g.edges[0]) / g[name].length; return { x: g[name].map(function (_, i) { return g.edges[0] + (i + 0.5) * step; }), y: g[name], type: "bar", width: step, name: text[name], opacity: 0.62, marker: { color: colour(name === "normal" ? "c0" : "c1") }, hovertemplate: "%{y:.1f} %<extra>" + text[name] + "</extra>" }; }
        var known = g.threshold !== undefined && g.threshold !== null, inside = known && g.threshold >= g.edges[0] && g.threshold <= g.edges[1], room = (g.edges[1] - g.edges[0]) * 0.03;
        var shape = g.points
          ? { xaxis: axis({ nticks: 5, range: [g.edges[0] - room, g.edges[1] + room] }), yaxis: axis({ range: [-0.6, 1.6], tickmode: "array", tickvals: [0, 1], ticktext: ["normal", "anomalous"], showgrid: false }) }
          : { xaxis: axis({ nticks: 5, range: g.edges.slice() }), yaxis: axis({ nticks: 4, ticksuffix: " %", rangemode: "tozero" }) };
        panel.setAttribute("role", "img");
        panel.setAttribute("aria-label", "Scores of the test clips, " + label(g) + (known ? ", threshold " + g.threshold : ""));
        var title = label(g) + (known && !inside ? " (threshold " + Number(g.threshold.toPrecision(3)) + ", outside)" : "");
        return draw(panel, g.points ? [points("normal", 0), points("anomaly", 1)] : [bars("normal"), bars("anomaly")], {
          height: g.points ? 170 : 220, barmode: "overlay", bargap: 0, showlegend: false, margin: { l: 40, r: 8, t: 30, b: 34 }, title: { text: title, font: { size: 13 }, x: 0.02, y: 0.97 },
          xaxis: shape.xaxis, yaxis: shape.yaxis,
          shapes: inside ? [{ type: "line", x0: g.threshold, x1: g.threshold, y0: 0, y1: 1, yref: "paper", line: { color: colour("ink"), width: 2, dash: "dash" } }] : []
        });
      }));
    });
  };
  function keys(arm) {
    var lines = Object.values(arm.training).flat(), scopes = auscult.unique(lines.map(function (l) { return l.name; })), items = [];
    if (scopes.length > 1 && scopes.length <= 8) scopes.forEach(function (name, index) {
      var item = document.createElement("span"), square = document.createElement("span");
      square.className = "key"; square.style.background = "var(--c" + index + ")";
      item.append(square, " " + (name || "all"));
      items.push(item);
    });
    if (scopes.length > 8) items.push(scopes.length + " networks, one line each");
    if (lines.some(function (l) { return l.valid; })) items.push("solid: training; dashed: validation");
    document.getElementById("training-keys").replaceChildren.apply(document.getElementById("training-keys"), items);
    return scopes;
  }
  painters.training = function (element) {
    return current().then(function (arm) {
      var names = Object.keys(arm.training), scopes = keys(arm);
      if (!names.length) return panels(element, 0);
      if (element.querySelector("p")) element.replaceChildren();
      return Promise.all(panels(element, names.length).map(function (panel, at) {
        var quantity = names[at], lines = arm.training[quantity], both = lines.some(function (l) { return l.valid; });
        var few = scopes.length <= 8, title = quantity === "lr" ? "learning rate" : quantity.replace(/_/g, " ");
        panel.setAttribute("role", "img");
        panel.setAttribute("aria-label", "Training: " + title);
        var traces = lines.map(function (l) {
          var index = scopes.indexOf(l.name), text = [l.name, both ? (l.valid ? "validation" : "training") : ""].filter(Boolean).join(", ") || title;
          return { x: l.x, y: l.y, mode: l.x.length === 1 ? "markers" : "lines", name: text, line: { color: series(few ? index : 0), width: few ? 1.8 : 0.8, dash: l.valid ? "dash" : "solid" }, hovertemplate: "epoch %{x}: %{y}<extra>" + text + "</extra>" };
        });
        var ys = lines.flatMap(function (l) { return l.y; }), flat = Math.min.apply(null, ys) === Math.max.apply(null, ys);
        return draw(panel, traces, {
          height: 230, showlegend: false, margin: { l: 48, r: 8, t: 30, b: 40 }, title: { text: title, font: { size: 13 }, x: 0.02, y: 0.97 },
          xaxis: axis({ name: "epoch", nticks: 6 }), yaxis: axis(Object.assign({ nticks: 5, exponentformat: "power" }, flat && ys[0] > 0 ? { range: [0, 2 * ys[0]] } : {}))
        });
      }));
    });
  };
  form.addEventListener("change", update);
  update();
})();
