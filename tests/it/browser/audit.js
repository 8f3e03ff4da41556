// Looks at the open page as somebody would who sees badly, hears it read out, or holds a phone: WCAG 2.2 AA, as far as a program can tell.
// Returns what is wrong, a sentence each.
const faults = new Set();
const all = (selector) => [...document.querySelectorAll(selector)];
const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
const told = (element) => {
    const named = [...element.classList].map((name) => "." + name).join("");
    return `<${element.localName}${named}> ${(element.textContent || element.value || "").trim().replace(/\s+/g, " ").slice(0, 40)}`.trim();
};

// Whatever CSS calls a colour, as red, green, blue and alpha from 0 to 1.
const brush = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
};
const over = (upper, lower) => [0, 1, 2].map((at) => upper[at] * upper[3] + lower[at] * (1 - upper[3])).concat(1);
const behind = (element) => {
    const layers = [];
    for (let one = element; one !== null; one = one.parentElement) {
        const colour = rgba(getComputedStyle(one).backgroundColor);
        if (colour[3] > 0) layers.push(colour);
        if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((lower, upper) => over(upper, lower), [1, 1, 1, 1]);
};
const luminance = (colour) => {
    const [red, green, blue] = colour.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ratio = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
};
const contrast = (what, colour, ground, wanted) => {
    const found = ratio(over(rgba(colour), ground), ground);
    if (found < wanted) faults.add(`contrast ${found.toFixed(2)} of ${wanted}: ${what}`);
};
const text = (element, style, what) => {
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
    contrast(what, style.color, behind(element), large ? 3 : 4.5);
    if (size < 12) faults.add(`letters of ${size} px: ${what}`);
    for (let one = element; one !== null; one = one.parentElement) {
        if (getComputedStyle(one).opacity !== "1") faults.add(`not opaque: ${what}`);
    }
};

// Every text that is shown, with what CSS puts before and after it and what fields say.
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (walker.currentNode.data.trim() === "" || !seen(element) || element.closest("svg, option, script, .unseen")) continue;
    text(element, getComputedStyle(element), told(element));
}
for (const element of all("body *")) {
    if (!seen(element)) continue;
    for (const part of ["::before", "::after"]) {
        const style = getComputedStyle(element, part);
        if (!["none", "normal", "\"\""].includes(style.content)) text(element, style, `${part} of ${told(element)}`);
    }
}
for (const element of all("input:not([type=hidden], [type=checkbox]), select")) {
    if (!seen(element)) continue;
    text(element, getComputedStyle(element), told(element));
    if (element.placeholder) text(element, getComputedStyle(element, "::placeholder"), `the placeholder of ${told(element)}`);
    contrast(`the edge of ${told(element)}`, getComputedStyle(element).borderTopColor, behind(element.parentElement), 3);
}
for (const shape of all("svg rect, svg polyline")) {
    const style = getComputedStyle(shape);
    const colour = style.fill === "none" ? style.stroke : style.fill;
    contrast(`<${shape.localName} class="${shape.getAttribute("class")}">`, colour, behind(shape.closest("svg")), 3);
}

// What has no words of its own has a name.
const words = (element) => element.getAttribute("aria-label") || [...element.labels ?? []].map((label) => label.innerText).join(" ")
    || element.innerText || [...element.querySelectorAll("img")].map((image) => image.alt).join(" ");
for (const element of all("a[href], button, input:not([type=hidden]), select, textarea, summary, progress, nav, [role=region]")) {
    if (seen(element) && words(element).trim() === "") faults.add(`no name: ${told(element)}`);
}
for (const image of all("img")) if (!image.hasAttribute("alt")) faults.add(`no alternative: ${image.src}`);
for (const image of all("svg")) {
    const named = image.getAttribute("role") === "img" && image.getAttribute("aria-label");
    if (!named && image.getAttribute("aria-hidden") !== "true") faults.add("no alternative: <svg>");
}

// The page is one that can be found one's way in.
if (!document.documentElement.lang) faults.add("no language");
if (document.title.trim() === "") faults.add("no title");
if (all("main").length !== 1) faults.add(`${all("main").length} times <main>`);
const headings = all("h1, h2, h3, h4, h5, h6").filter(seen).map((heading) => Number(heading.localName[1]));
if (headings.filter((level) => level === 1).length !== 1) faults.add(`headings ${headings}: one is the first`);
if (headings.some((level, at) => at > 0 && level > headings[at - 1] + 1)) faults.add(`headings ${headings}: one is left out`);
for (const table of all("table")) {
    if (table.caption === null) faults.add("a table without a caption");
    if (table.querySelector("th") === null || table.querySelector("th:not([scope])") !== null) faults.add("a table without heads");
}
// On a phone the parts of a cell would lie in the column of its head.
for (const cell of all("td")) if (cell.childNodes.length > 1) faults.add(`a cell in pieces: ${told(cell)}`);
for (const head of all("th")) if (head.textContent.trim() === "") faults.add("the head of a column is empty");
for (const group of all("fieldset")) if (group.querySelector("legend") === null) faults.add("a group of fields without a legend");
for (const element of all("[tabindex]")) if (element.tabIndex > 0) faults.add(`a place of its own in the order: ${told(element)}`);
const ids = all("[id]").map((element) => element.id);
for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.add(`twice: #${id}`);

// A finger hits it, and nothing sticks out at the side.
for (const element of all("button, input:not([type=hidden]), select, summary, nav a, .brand")) {
    const { width, height } = element.getBoundingClientRect();
    if (seen(element) && Math.min(width, height) < 24) faults.add(`${Math.round(width)} by ${Math.round(height)} px: ${told(element)}`);
}
const room = document.documentElement.clientWidth;
if (document.scrollingElement.scrollWidth > room) {
    const out = all("main *, header *, footer *").filter((element) => seen(element) && !element.closest(".scroll, .unseen") && element.getBoundingClientRect().right > room + 1);
    faults.add(`wider than ${room} px: ${out.slice(-3).map(told).join(", ")}`);
}
if (room < 600) {
    const [nav] = all("nav");
    if (nav !== undefined) {
        const { height } = nav.getBoundingClientRect();
        if (height > 64) faults.add(`the navigation takes ${Math.round(height)} px`);
        for (const link of nav.querySelectorAll("a")) {
            link.focus();
            const { left, right } = link.getBoundingClientRect();
            if (right < 24 || left > room - 24) faults.add(`the focus is where nobody sees it: ${told(link)}`);
        }
        document.activeElement.blur();
        nav.scrollLeft = 0;
    }
    for (const box of all("input[type=checkbox]")) {
        if (seen(box) && (box.closest("label")?.innerText ?? "").trim() === "") faults.add(`nothing is to be read beside a box: ${box.getAttribute("aria-label")}`);
    }
    for (const part of all(".scroll")) if (part.scrollWidth > part.clientWidth + 1) faults.add(`to be scrolled sideways: ${told(part).slice(0, 60)}`);
}
return [...faults];
