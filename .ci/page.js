// What a browser sees of a page: added to a copy of it, which otherwise has no scripts. The result is an attribute of the body.
const box = (e) => e.getBoundingClientRect();
const faults = [];
const pictures = [...document.querySelectorAll("svg")];
for (const svg of pictures) {
    const outer = box(svg);
    if (!(outer.width > 0 && outer.height > 0)) faults.push("a picture without size");
    for (const e of svg.querySelectorAll("rect, text, path")) {
        const b = box(e);
        if (!(b.width > 0 || b.height > 0)) faults.push("a part without size: " + e.textContent);
        if (b.left < outer.left - 1 || b.right > outer.right + 1 || b.top < outer.top - 1 || b.bottom > outer.bottom + 1)
            faults.push("a part outside of its picture: " + e.textContent);
    }
    const boxes = [...svg.querySelectorAll("a > rect")].map(box);
    boxes.forEach((a, n) => boxes.slice(n + 1).forEach((b) => {
        if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) faults.push("boxes overlap");
    }));
    for (const a of svg.querySelectorAll("a")) {
        const frame = box(a.querySelector("rect"));
        for (const t of a.querySelectorAll("text")) {
            const b = box(t);
            if (b.left < frame.left || b.right > frame.right) faults.push("a text wider than its box: " + t.textContent);
        }
    }
}
for (const d of document.querySelectorAll("details")) d.open = true;
const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) faults.push("the page is wider than its window");
for (const e of document.querySelectorAll("h1, h2, h3, h4, summary, ol.laws code, figcaption, caption")) {
    if (!(box(e).width > 0 && box(e).height > 0)) faults.push("without size: " + e.textContent);
}
document.body.dataset.seen = `${pictures.length} pictures, ${faults.length} faults: ${faults.slice(0, 5).join("; ")}`;
