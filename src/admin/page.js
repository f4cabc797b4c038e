"use strict";
(() => {
  const EVERY = 2000;
  const WITHIN = 8000;
  const live = document.getElementById("live");
  // a page that was opened with a password in its address could not ask by a relative one
  const from = new URL("status", location.origin + location.pathname);

  const say = (text, state) => {
    if (live.textContent !== text) live.textContent = text;
    live.className = state;
  };

  const isSelected = (part) => {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.getRangeAt(0).intersectsNode(part);
  };

  // parts that have not changed stay, and so does one in which somebody marks text; true if there is such a one
  const show = (text) => {
    let isHeld = false;
    const news = new DOMParser().parseFromString(text, "text/html");
    for (const part of news.querySelectorAll("section[id]")) {
      const old = document.getElementById(part.id);
      if (old === null || old.isEqualNode(part)) continue;
      if (isSelected(old)) isHeld = true;
      else old.replaceWith(document.adoptNode(part));
    }
    return isHeld;
  };

  const refresh = async () => {
    const answer = await fetch(from, { cache: "no-store", signal: AbortSignal.timeout(WITHIN) });
    if (answer.status === 401) throw new Error("the token has changed, load the page again");
    if (!answer.ok) throw new Error(`the gateway answers ${answer.status}`);
    return show(await answer.text());
  };

  const loop = async () => {
    if (!document.hidden) {
      try {
        const isHeld = await refresh();
        say(isHeld ? "live, but for the part with marked text" : "live", "good");
      } catch (error) {
        const reason = error instanceof TypeError || error.name === "TimeoutError" ? "no answer" : error.message;
        say(`not up to date: ${reason}`, "bad");
      }
    }
    setTimeout(loop, EVERY);
  };

  say("live", "good");
  setTimeout(loop, EVERY);
})();
