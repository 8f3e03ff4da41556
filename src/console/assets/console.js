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
    for (const button of root.querySelectorAll("button[data-confirm]")) {
        button.addEventListener("click", (event) => {
            if (!window.confirm(button.dataset.confirm)) event.preventDefault();
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

const renew = async (main) => {
    if (inUse(main)) return main;
    const url = new URL(window.location.href);
    url.searchParams.delete("done");
    const answer = await fetch(url, { credentials: "same-origin", headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return main;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    if (fresh === null || inUse(main)) return main;
    const kept = document.importNode(fresh, true);
    main.replaceWith(kept);
    tell(kept);
    ask(kept);
    return kept;
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
                main.classList.remove("stale");
            } catch {
                const updated = main.querySelector(".updated");
                if (updated !== null) updated.textContent = "the console does not answer; this is what it said last";
            }
            setTimeout(round, every * 1000);
        };
        setTimeout(round, every * 1000);
    }
});
