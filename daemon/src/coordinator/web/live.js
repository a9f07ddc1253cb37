// Keeps an open page true: when the coordinator says that something changed, the page is fetched again and the parts that differ are put in.
// Without this script every page shows the same, as of when it was loaded.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main || !window.EventSource) return;
  let source = null;
  let busy = false;
  let again = false;

  // Somebody is at work in it: it stays until they are done.
  const inUse = (part) => {
    const focus = document.activeElement;
    return part.contains(focus) && focus.matches("input, textarea, select, button, summary");
  };

  const put = (fresh) => {
    for (const part of document.querySelectorAll("[data-part]")) {
      const next = fresh.querySelector('[data-part="' + part.dataset.part + '"]');
      if (!next || next.isEqualNode(part) || inUse(part)) continue;
      const open = Array.from(part.querySelectorAll("details"), (one) => one.open);
      const scrolled = Array.from(part.querySelectorAll(".scroll"), (one) => one.scrollLeft);
      const taken = document.importNode(next, true);
      taken.querySelectorAll("details").forEach((one, n) => { one.open = open[n] || one.open; });
      part.replaceWith(taken);
      taken.querySelectorAll(".scroll").forEach((one, n) => { one.scrollLeft = scrolled[n] || 0; });
    }
    // A question that came, or went: it stands in a place of its own.
    for (const next of fresh.querySelectorAll("[data-part^=answer-]")) {
      if (!document.querySelector('[data-part="' + next.dataset.part + '"]')) document.querySelector("[data-part=waiting]").before(document.importNode(next, true));
    }
    for (const part of document.querySelectorAll("[data-part^=answer-]")) {
      if (!fresh.querySelector('[data-part="' + part.dataset.part + '"]')) part.remove();
    }
    document.title = fresh.title;
  };

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store" });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* The next message, or the next connection, tries again. */ }
    busy = false;
    if (again) { again = false; refresh(); }
  };

  const open = () => {
    if (source || document.hidden) return;
    source = new EventSource(main.dataset.live);
    source.addEventListener("changed", refresh);
    source.addEventListener("error", () => {
      document.body.classList.add("offline");
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(open, 3000); refresh(); }
    });
    source.addEventListener("open", () => document.body.classList.remove("offline"));
  };
  const close = () => { if (source) { source.close(); source = null; } };

  // A browser has six connections to a host: pages that nobody sees, and a form on its way, leave them to halt.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  document.addEventListener("submit", close);
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
