"use strict";
// The closed forms of scripts/erf/theory.py for the structures of scripts/replication/stacks/structures.py. Kernels are uniform, for weights
// or for their variances, so every map is a sum of outer products of a row with itself: one, without residual blocks.
const ERF = (() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);

  // Layers of a network, input first: {kernel, stride, dilation}, or a residual block {branch: [...]}.
  function layersOf(settings) {
    const {depth, kernel, structure, special, stride, dilation} = settings;
    const plain = {kernel, stride: 1, dilation: 1};
    if (structure === "skip") {
      const blocks = Array(Math.floor((depth - 1) / 2)).fill({branch: [plain, plain]});
      return [...Array((depth - 1) % 2).fill(plain), ...blocks, plain];
    }
    const layers = [];
    let factor = 1;
    for (let number = 1; number <= depth; number++) {
      const own = special.includes(number);
      if (own && structure === "dilation") factor *= dilation;
      layers.push({
        kernel,
        stride: own && structure === "subsample" ? stride : 1,
        dilation: own && structure === "dilation" ? factor : 1,
      });
      if (own && structure === "average_pool") layers.push({kernel: stride, stride, dilation: 1});
    }
    return layers;
  }

  // Theoretical receptive field: 1 + sum of (k - 1) dilation x the earlier strides.
  function rfOf(layers) {
    let reach = 0, jump = 1;
    for (const layer of layers) {
      reach += jump * (layer.branch ? rfOf(layer.branch) - 1 : layer.dilation * (layer.kernel - 1));
      jump *= layer.branch ? 1 : layer.stride;
    }
    return 1 + reach;
  }

  // Variance along one axis: that of each kernel times the squared dilation and earlier strides. The identity and the
  // branch of a residual block carry one half each.
  function varianceOf(layers) {
    let sum = 0, jump = 1;
    for (const layer of layers) {
      const own = layer.branch ? varianceOf(layer.branch) / 2 : layer.dilation ** 2 * (layer.kernel ** 2 - 1) / 12;
      sum += jump ** 2 * own;
      jump *= layer.branch ? 1 : layer.stride;
    }
    return sum;
  }

  // One row carried back through a layer: spread out by the stride, then convolved with the kernel.
  function carriedBack(row, {kernel, stride, dilation}) {
    const spread = (row.length - 1) * stride + 1;
    const carried = new Float64Array(spread + dilation * (kernel - 1));
    for (let m = 0; m < kernel; m++)
      for (let i = 0; i < row.length; i++) carried[i * stride + m * dilation] += row[i] / kernel;
    return carried;
  }

  // The terms {weight, row} whose outer products add up to the map. Paths through equally many branches are one term.
  function termsOf(layers, length) {
    let terms = [{weight: 1, row: Float64Array.of(1)}];
    for (const layer of [...layers].reverse()) {
      if (!layer.branch) {
        terms = terms.map(({weight, row}) => ({weight, row: carriedBack(row, layer)}));
        continue;
      }
      const through = terms.map(({weight, row}) => ({weight, row: [...layer.branch].reverse().reduce(carriedBack, row)}));
      terms = [...terms, {weight: 0, row: through.at(-1).row}].map(({weight, row}, i) => ({
        weight: weight + (i ? through[i - 1].weight : 0),
        row,
      }));
    }
    return terms.map(({weight, row}) => {
      const padded = new Float64Array(length);
      padded.set(row, (length - row.length) / 2);
      return {weight, row: padded};
    });
  }

  // The share of a pixel that lies inside the contour, as erf.size has it: within the pixel, the logarithm of the impact
  // is a plane.
  function shareInside(map, side, row, column, level) {
    const limit = -Math.log(data.threshold), within = (index) => Math.min(Math.max(index, 0), side - 1);
    const at = (down, right) => map[within(row + down) * side + within(column + right)];
    const inside = at(0, 0) > level;
    if ([-1, 0, 1].every((down) => [-1, 0, 1].every((right) => at(down, right) > level === inside))) return inside ? 1 : 0;
    const log = (down, right) => Math.min(Math.max(Math.log(at(down, right) / level), -limit), limit);
    const [middle, above, below, left, right] = [log(0, 0), log(-1, 0), log(1, 0), log(0, -1), log(0, 1)];
    const smooth = [middle, above, below, left, right].every((value) => Math.abs(value) < (1 - 1e-9) * limit); // no step
    const mean = middle + (smooth ? (above + below + left + right - 4 * middle) / 24 : 0);
    const slopes = [Math.abs(below - above) / 2, Math.abs(right - left) / 2];
    const steep = Math.max(...slopes), flat = Math.min(...slopes), distance = Math.abs(mean);
    let beyondHalf = 0.5;
    if (distance <= (steep - flat) / 2) beyondHalf = distance / steep;
    else if (distance < (steep + flat) / 2) beyondHalf = 0.5 - ((steep + flat) / 2 - distance) ** 2 / (2 * steep * flat);
    return 0.5 + Math.sign(mean) * beyondHalf;
  }

  // Expected map, row by row: |g| for uniform weights, the root of E[g^2] for random ones.
  function mapOf(settings) {
    const layers = layersOf(settings), side = rfOf(layers);
    const map = new Float64Array(side * side);
    for (const {weight, row} of termsOf(layers, side))
      for (let r = 0; r < side; r++)
        for (let c = 0; c < side; c++) map[r * side + c] += weight * row[r] * row[c];
    if (settings.weights === "random") for (let i = 0; i < map.length; i++) map[i] = Math.sqrt(map[i]);
    const near = [...new Set([Math.floor((side - 1) / 2), Math.ceil((side - 1) / 2)])]; // of an even side, the middle two
    let centre = 0;
    for (const r of near) for (const c of near) centre += map[r * side + c] / near.length ** 2;
    let area = 0;
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) area += shareInside(map, side, row, column, data.threshold * centre);
    const sigma = Math.sqrt(varianceOf(layers)) * (settings.weights === "random" ? Math.SQRT2 : 1);
    return {map, side, centre, sigma, size: Math.sqrt(area), ratio: Math.sqrt(area) / side};
  }

  const element = (id) => document.getElementById(id);
  const WITH_STRIDE = ["subsample", "average_pool"], WITH_SPECIAL = [...WITH_STRIDE, "dilation"];

  // What the controls say, and what is wrong with it, or only worth a remark.
  function settingsShown() {
    const structure = element("structure").value, depth = Number(element("depth").value);
    const settings = {
      depth,
      kernel: Number(element("kernel").value),
      weights: element("weights").value,
      structure,
      special: [],
      stride: Number(element("stride").value),
      dilation: Number(element("dilation").value),
    };
    if (structure === "skip" && depth < 3) return {settings, problem: "Skip connections need at least three layers."};
    let remark = "";
    if (WITH_SPECIAL.includes(structure)) {
      const words = element("special").value.split(/[\s,;]+/).filter(Boolean);
      const wrong = words.find((word) => !/^[1-9]\d*$/.test(word));
      if (wrong !== undefined) return {settings, problem: `${wrong} is no layer: write numbers and commas, such as 4, 8, 12.`};
      const layers = [...new Set(words.map(Number))].sort((a, b) => a - b);
      settings.special = layers.filter((layer) => layer <= depth);
      const beyond = layers.filter((layer) => layer > depth);
      if (beyond.length) remark = `There is no layer ${beyond.join(", ")} in ${depth}, which is ignored.`;
    }
    const side = rfOf(layersOf(settings));
    if (side > data.largest)
      return {settings, problem: `Its receptive field has ${side} pixels a side; more than ${data.largest} are not drawn.`};
    return {settings, problem: "", remark};
  }

  // What a network is: without a special layer, or with ones of factor 1, it is a plain stack.
  function plainly(settings) {
    const factor = WITH_STRIDE.includes(settings.structure) ? settings.stride : settings.dilation;
    if (!WITH_SPECIAL.includes(settings.structure) || (settings.special.length && factor > 1)) return {...settings, factor};
    return {...settings, structure: "plain", special: []};
  }

  // Measured networks with these settings. Their special layers all have a stride, or a first dilation, of 2.
  function measuredLike(settings) {
    const {factor, ...wanted} = plainly(settings);
    const usual = !WITH_SPECIAL.includes(wanted.structure) || factor === 2;
    return data.measured.filter(
      (own) =>
        usual &&
        ["depth", "kernel", "weights", "structure"].every((name) => own[name] === wanted[name]) &&
        own.special.join() === wanted.special.join(),
    );
  }

  // Which depths were measured with this structure, if any were.
  function depthsMeasured(settings) {
    const {structure} = plainly(settings);
    const depths = [...new Set(data.measured.filter((own) => own.structure === structure).map((own) => own.depth))];
    const listed = depths.sort((a, b) => a - b).join(", ");
    return depths.length ? ` Of this structure networks of ${listed} layers were.` : "";
  }

  // A map in colours, `peak` being the brightest, and the bound of the ERF, the pixels above `level`.
  function drawMap(canvas, {map, height, width, peak, level}) {
    const context = canvas.getContext("2d"), small = new OffscreenCanvas(width, height), image = new ImageData(width, height);
    for (let i = 0; i < map.length; i++) {
      const colour = data.colours[Math.round(Math.min(map[i] / peak, 1) * (data.colours.length - 1))];
      image.data.set([...colour, 255], 4 * i);
    }
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const x = canvas.width / width, y = canvas.height / height, inside = (r, c) => map[r * width + c] > level;
    context.strokeStyle = "white";
    context.lineWidth = canvas.width / 320;
    context.beginPath();
    for (let r = 0; r < height; r++)
      for (let c = 0; c < width; c++) {
        if (c + 1 < width && inside(r, c) !== inside(r, c + 1)) {
          context.moveTo((c + 1) * x, r * y);
          context.lineTo((c + 1) * x, (r + 1) * y);
        }
        if (r + 1 < height && inside(r, c) !== inside(r + 1, c)) {
          context.moveTo(c * x, (r + 1) * y);
          context.lineTo((c + 1) * x, (r + 1) * y);
        }
      }
    context.stroke();
  }

  function drawProfile({map, side, centre, sigma}) {
    const canvas = element("profile"), context = canvas.getContext("2d");
    const style = getComputedStyle(document.body), middle = Math.floor((side - 1) / 2);
    const x = (c) => ((c + 0.5) / side) * canvas.width, y = (value) => canvas.height - 8 - value * (canvas.height - 24);
    context.clearRect(0, 0, canvas.width, canvas.height);
    const line = (points, colour, dash) => {
      context.strokeStyle = colour;
      context.setLineDash(dash);
      context.lineWidth = 2;
      context.beginPath();
      points.forEach(([px, py], i) => (i ? context.lineTo(px, py) : context.moveTo(px, py)));
      context.stroke();
    };
    line([[0, y(0)], [canvas.width, y(0)]], style.getPropertyValue("--line"), []);
    const pixels = [...Array(side).keys()], fine = [...Array(321).keys()].map((i) => (i / 320) * side - 0.5);
    if (sigma > 0)
      line(fine.map((c) => [x(c), y(Math.exp(-(((c - (side - 1) / 2) / sigma) ** 2) / 2))]), style.getPropertyValue("--faint"), [8, 6]);
    line(pixels.map((c) => [x(c), y(map[middle * side + c] / centre)]), style.getPropertyValue("--link"), []);
  }

  const OUTPUTS = {sigma: 2, size: 2, side: 0, ratio: 3}; // digits

  function showMeasured(settings) {
    const place = element("measured"), found = measuredLike(settings);
    place.replaceChildren();
    if (!found.length) {
      place.textContent = `No network with these settings was measured here.${depthsMeasured(settings)}`;
      return;
    }
    for (const own of found) {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas");
      const caption = document.createElement("figcaption");
      const bytes = Uint8Array.from(atob(own.values), (one) => one.charCodeAt(0)); // 16 bits a pixel, little end first
      const map = Float64Array.from({length: bytes.length / 2}, (_, i) => bytes[2 * i] + 256 * bytes[2 * i + 1]);
      canvas.width = canvas.height = 320;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `Measured impact map: ${own.label}`);
      drawMap(canvas, {map, height: own.height, width: own.width, peak: own.peak, level: own.level});
      caption.textContent =
        `${own.label}: ERF ${own.size} px, ratio ${own.ratio}, σ of a fitted Gaussian ${own.sigma} px ` +
        `(fitted to theory: ${own.theory} px)`;
      figure.append(canvas, caption);
      place.append(figure);
    }
  }

  // Nothing is left of the last network where this one cannot be shown.
  function clear() {
    for (const id of Object.keys(OUTPUTS)) {
      element(id).textContent = "–";
      delete element(id).dataset.value;
    }
    for (const id of ["map", "profile"]) element(id).getContext("2d").clearRect(0, 0, element(id).width, element(id).height);
    element("map").setAttribute("aria-label", "No map");
    element("measured").replaceChildren();
  }

  function update() {
    for (const id of ["depth", "stride", "dilation"]) element(`${id}-shown`).textContent = element(id).value;
    const structure = element("structure").value;
    element("special-control").hidden = !WITH_SPECIAL.includes(structure);
    element("stride-control").hidden = !WITH_STRIDE.includes(structure);
    element("dilation-control").hidden = structure !== "dilation";
    const {settings, problem, remark} = settingsShown();
    element("problem").textContent = problem || remark;
    element("special").setAttribute("aria-invalid", String(Boolean(problem)));
    if (problem) return clear();
    const theory = mapOf(settings), {side} = theory;
    for (const [id, digits] of Object.entries(OUTPUTS)) {
      element(id).textContent = theory[id].toFixed(digits);
      element(id).dataset.value = String(theory[id]); // in full, for whoever copies or tests it
    }
    drawMap(element("map"), {map: theory.map, height: side, width: side, peak: theory.centre, level: data.threshold * theory.centre});
    drawProfile(theory);
    element("map").setAttribute(
      "aria-label",
      `Theory's impact map, ${side} by ${side} pixels, with an ERF of size ${theory.size.toFixed(1)} pixels`,
    );
    showMeasured(settings);
  }

  // Once a control is let go, and not at each of its steps, for those who hear the page.
  function announce() {
    const said = Object.keys(OUTPUTS).map((id) => `${element(id).parentElement.previousElementSibling.textContent} ${element(id).textContent}`);
    element("status").textContent = element("problem").textContent || said.join(", ");
  }

  // Some browsers, and form fillers, tell of a control's new value by `change` alone.
  const form = document.querySelector(".explorer");
  form.addEventListener("input", update);
  form.addEventListener("change", update);
  form.addEventListener("change", announce);
  form.addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
  update();
  return {mapOf};
})();
