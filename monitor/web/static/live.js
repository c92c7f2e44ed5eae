// Makes pages that work without it more pleasant: they refresh without losing your place, and filter while you
// type. The server renders everything; this script only replaces what differs.
"use strict";
{
  const every = Number(document.body.dataset.refreshSeconds) * 1000;
  const soon = 1000; // ms while a check is running that someone may be waiting for
  const typed = 200; // ms without a key: shorter than a pause for thought, longer than one between keys
  const byId = (id) => document.getElementById(id);
  const pause = byId("pause");
  const stale = byId("stale");
  let asked = null; // the running request
  let turn = 0;

  // Updates the page node by node. Unchanged nodes are not touched, so focus, selection, scroll positions and
  // opened details are kept.
  function become(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    for (const { name } of [...old.attributes])
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes)
      if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS"))
        old.setAttribute(name, value);
    const byKey = new Map();
    for (const child of old.children) if (child.id) byKey.set(child.id, child);
    let place = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const known = next.id ? byKey.get(next.id) : undefined;
      if (known && known !== place) old.insertBefore(known, place);
      const here = known || place;
      if (!here || (!known && here.id && byKey.has(here.id))) {
        old.insertBefore(next, place);
        continue;
      }
      place = here.nextSibling;
      become(here, next);
    }
    while (place) {
      const after = place.nextSibling;
      place.remove();
      place = after;
    }
  }

  // Logs and colleagues elsewhere use UTC; the local time is shown next to it.
  function localise(within) {
    for (const time of within.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (!at.getTimezoneOffset()) continue;
      const here = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      if (time.title) time.title += ` · ${here} here`;
      else if (time.className === "whole") time.append(` · ${here} here`);
    }
  }

  async function load(address) {
    asked?.abort();
    const mine = (asked = new AbortController());
    try {
      const answer = await fetch(address, { signal: mine.signal, headers: { Accept: "text/html" }, cache: "no-store" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (mine.signal.aborted) return false;
      if (!fresh.getElementById("asof")) throw new Error("no page of ours");
      localise(fresh);
      const focused = document.activeElement?.id;
      become(byId("main"), fresh.getElementById("main"));
      // A row that moved has lost its focus.
      if (focused && document.activeElement?.id !== focused) byId(focused)?.focus({ preventScroll: true });
      become(byId("asof"), fresh.getElementById("asof"));
      document.title = fresh.title;
      stale.hidden = true;
      return true;
    } catch (error) {
      if (error.name !== "AbortError") {
        // A page that no longer updates must not look healthy.
        const text = "The monitor does not respond. This page is out of date: " + byId("asof").textContent;
        if (stale.textContent !== text) stale.textContent = text;
        stale.hidden = false;
      }
      return false;
    } finally {
      if (asked === mine) asked = null;
    }
  }

  const paused = () => pause.getAttribute("aria-pressed") === "true";
  const selecting = () => {
    const selection = getSelection();
    return !selection.isCollapsed && byId("main").contains(selection.anchorNode);
  };

  function later() {
    clearTimeout(turn);
    turn = setTimeout(refresh, byId("checking") ? soon : every);
  }

  async function refresh() {
    if (!paused() && !document.hidden && !selecting() && !asked) await load(location.href);
    later();
  }

  const form = byId("filter");
  function addressOfForm() {
    const wanted = new URLSearchParams();
    for (const [name, value] of new FormData(form))
      if (value.trim() && !(name === "sort" && value === "worst")) wanted.append(name, value.trim());
    const query = wanted.toString();
    return query ? "?" + query : location.pathname;
  }

  // The address contains the current filters, so a reload, a bookmark and a link show the same.
  async function filter(keep) {
    const address = addressOfForm();
    if (address === (location.search || location.pathname)) return;
    history[keep](null, "", address);
    await load(location.href);
    later();
  }

  if (form) {
    let typing = 0;
    form.addEventListener("input", (event) => {
      if (event.target.nodeName === "SELECT") return;
      clearTimeout(typing);
      typing = setTimeout(() => filter("replaceState"), typed);
    });
    form.addEventListener("change", (event) => {
      clearTimeout(typing);
      filter(event.target.nodeName === "SELECT" ? "pushState" : "replaceState");
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(typing);
      filter("replaceState");
    });
    addEventListener("popstate", async () => {
      if (await load(location.href)) form.reset();
    });
  }

  // Browsers offer the clipboard only on HTTPS and loopback. A refresh may replace the button.
  document.documentElement.classList.toggle("copies", Boolean(navigator.clipboard));
  document.addEventListener("click", async (event) => {
    if (event.target.id !== "copy") return;
    await navigator.clipboard.writeText(byId("command").textContent);
    event.target.textContent = "Copied";
  });

  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!paused()));
    if (!paused()) refresh();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  document.documentElement.classList.add("live");
  localise(document);
  if (matchMedia("(max-width: 40rem)").matches) byId("filters")?.removeAttribute("open");
  later();
}
