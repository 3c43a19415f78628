// From a list to its cases and on to the next: the list that a case was opened from goes along with it.

const KEY = "hardcase.listing";
const ID = /^\/cases\/([0-9a-f]{16})$/;

function keep(listing) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(listing));
  } catch {
    /* without storage there is no next and previous */
  }
}

function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

export function idsOf(links) {
  const ids = [...links].map((a) => ID.exec(new URL(a.href).pathname)?.[1]).filter(Boolean);
  return [...new Set(ids)];
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("main a");
  if (!link || link.closest("[data-listing]") || !ID.test(new URL(link.href).pathname)) return;
  const list = link.closest("ul.cards, table, [data-cases]");
  const ids = list ? idsOf(list.querySelectorAll("a")) : [];
  if (ids.length < 2) return;
  const next = document.querySelector('a[rel="next"]')?.getAttribute("href") ?? null;
  const title = document.querySelector("h1")?.firstChild?.textContent.trim() || document.title;
  keep({ ids, next: list.matches("ul.cards") ? next : null, from: location.pathname + location.search, title });
});

// The neighbours of a case in the list it came from: {back, title, place, of, more, previous, next}; null without a list.
export async function around(id) {
  const listing = kept();
  let at = listing?.ids.indexOf(id) ?? -1;
  if (at < 0) return null;
  if (at === listing.ids.length - 1 && listing.next) {
    const url = new URL(listing.next, location.href);
    url.searchParams.set("format", "json");
    try {
      const page = await (await fetch(url)).json();
      listing.ids.push(...page.cases.map((c) => c.id).filter((other) => !listing.ids.includes(other)));
      listing.next = page.next_href ?? null;
      keep(listing);
    } catch {
      /* the end of what is known */
    }
  }
  at = listing.ids.indexOf(id);
  return {
    back: listing.from,
    title: listing.title,
    place: at + 1,
    of: listing.ids.length,
    more: Boolean(listing.next),
    previous: listing.ids[at - 1] ?? null,
    next: listing.ids[at + 1] ?? null,
  };
}
