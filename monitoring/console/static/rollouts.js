// The live picture: while a roll-out is under way, the part of the page that changes is fetched anew every second.

const EVERY_MS = 1000;

async function refresh() {
  const live = document.getElementById("live");
  if (!live || live.dataset.live !== "on") return;
  // nothing is pulled away under a pointer that is down, or under the keyboard
  const busy = document.hidden || live.contains(document.activeElement) || live.matches(":active");
  if (!busy) {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin" });
      if (answer.ok) {
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        const part = next.getElementById("live");
        const health = next.querySelector(".health");
        if (part && part.innerHTML !== live.innerHTML) live.replaceWith(part);
        if (health) document.querySelector(".health")?.replaceWith(health);
      }
    } catch {
      // the monitor restarts: what is shown stays, and the next try follows
    }
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
