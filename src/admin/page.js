// Without this the page is complete, and stands still.  Every two seconds, while the tab is shown, it is asked for again.
const say = (text) => { document.getElementById("live").textContent = text; };
let timer = 0;
async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    say("live");
  } catch (error) {
    say("no answer since " + new Date().toLocaleTimeString());
  }
  timer = setTimeout(refresh, 2000);
}
document.addEventListener("visibilitychange", refresh);
timer = setTimeout(refresh, 2000);
say("live");
