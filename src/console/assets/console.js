// Keeps a page up to date, says how long ago things were, and asks before what cannot be undone. Everything works without it.
"use strict";

const ago = (seconds) => {
    const past = seconds >= 0 ? " ago" : " from now";
    const amount = Math.abs(seconds);
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
        if (amount >= 2 * size) return Math.floor(amount / size) + " " + unit + past;
    }
    return Math.round(amount) + " s" + past;
};

const tell = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
        time.title = time.title || time.textContent;
        time.textContent = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    }
};

const ask = (root) => {
    for (const form of root.querySelectorAll("form[method=post]")) {
        form.addEventListener("submit", (event) => {
            const { choose } = form.dataset;
            const question = event.submitter?.dataset.confirm;
            if (choose !== undefined && form.querySelector("input[name=id]:checked, input[name=every]:checked") === null) {
                event.preventDefault();
                window.alert(choose);
            } else if (question !== undefined && !window.confirm(question)) {
                event.preventDefault();
            }
        });
    }
};

// Whoever is about to act on what they see must not have it changed under their hands.
const inUse = (main) =>
    document.hidden ||
    main.contains(document.activeElement) && document.activeElement.matches("input, select, button, summary") ||
    main.querySelector("input[type=checkbox]:checked:not(.filter *), details[open]") !== null ||
    [...main.querySelectorAll("input[name=reason]")].some((input) => input.value !== "") ||
    window.getSelection().toString() !== "";

// Where somebody is on the page: what has the focus, as the n-th of those that are alike, and how far each table is scrolled.
const alike = (main, element) => [...main.querySelectorAll(element.tagName)].filter((one) =>
    ["href", "aria-label"].every((name) => one.getAttribute(name) === element.getAttribute(name)));

const standing = (main) => {
    const focused = document.activeElement;
    const index = main.contains(focused) ? alike(main, focused).indexOf(focused) : -1;
    const tables = [...main.querySelectorAll(".scroll")].map((table) => [table, table.scrollLeft]);
    return (kept) => {
        for (const [table, left] of tables) for (const same of alike(kept, table)) same.scrollLeft = left;
        if (main.contains(focused)) (alike(kept, focused)[index] ?? kept).focus({ preventScroll: true });
    };
};

const renew = async (main) => {
    if (inUse(main)) return main;
    const url = new URL(window.location.href);
    url.searchParams.delete("done");
    const answer = await fetch(url, { credentials: "same-origin", headers: { accept: "text/html" } });
    if (answer.redirected) throw new Error("The login has ended: load the page again.");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    const said = fresh?.querySelector(":scope > .problem > p")?.textContent;
    if (!answer.ok) throw new Error(said ?? "The console could not answer.");
    if (fresh === null || inUse(main)) return main;
    // What was said to be wrong is over: its title goes too.
    if (main.dataset.problem !== undefined) window.location.reload();
    const kept = document.importNode(fresh, true);
    const restore = standing(main);
    main.replaceWith(kept);
    restore(kept);
    tell(kept);
    ask(kept);
    return kept;
};

// What was seen last stays, but nobody must take it for how things are.
const age = (main, why) => {
    if (main.dataset.problem !== undefined) return;
    const note = main.querySelector(":scope > .stale") ?? document.createElement("p");
    note.className = "problem stale";
    note.setAttribute("role", "alert");
    if (note.textContent !== why) note.textContent = why;
    main.prepend(note);
    main.classList.add("aged");
};

document.addEventListener("DOMContentLoaded", () => {
    let main = document.getElementById("main");
    tell(document);
    ask(document);
    const every = Number(main.dataset.live);
    if (every > 0) {
        const round = async () => {
            try {
                main = await renew(main);
                if (window.getSelection().toString() === "") tell(main);
            } catch (problem) {
                const why = problem instanceof TypeError ? "The console does not answer." : problem.message;
                age(main, why + " What is below is what it said last.");
                tell(main);
            }
            setTimeout(round, every * 1000);
        };
        setTimeout(round, every * 1000);
    }
});
