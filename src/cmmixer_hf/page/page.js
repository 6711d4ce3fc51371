// Playing: a hit starts at its section, one thing is heard at a time, and a hit plays together with the query.
(() => {
  let pair = [];
  const begin = player => Number(player.dataset.start || 0);
  document.addEventListener("play", event => {
    if (pair.includes(event.target)) return;
    pair = [];
    for (const player of document.querySelectorAll("audio, video")) if (player !== event.target) player.pause();
  }, true);
  for (const name of ["pause", "ended"]) document.addEventListener(name, event => {
    if (!pair.includes(event.target)) return;
    const others = pair.filter(player => player !== event.target);
    pair = [];
    for (const player of others) player.pause();
  }, true);
  document.addEventListener("error", event => {
    const player = event.target;
    if (!player.matches?.(".cmm-hit audio, .cmm-hit video, .cmm-preview audio, .cmm-preview video")) return;
    const words = document.createElement("div");
    words.className = "cmm-quiet";
    words.textContent = "This browser cannot play the file.";
    player.replaceWith(words);
  }, true);
  document.addEventListener("click", event => {
    const button = event.target.closest?.(".cmm-together");
    if (!button) return;
    const hit = button.closest(".cmm-hit").querySelector("audio, video");
    const query = document.querySelector(`#${button.dataset.preview} video, #${button.dataset.preview} audio`);
    if (!hit || !query) return;
    // What is searched for a picture is sound, and the other way round: the hit's sound, or else the query's, is heard.
    const hitIsHeard = hit.tagName === "AUDIO";
    for (const player of document.querySelectorAll("audio, video")) player.pause();
    query.muted = hitIsHeard;
    hit.muted = !hitIsHeard;
    query.currentTime = 0;
    hit.currentTime = begin(hit);
    pair = [query, hit];
    (hitIsHeard ? query : hit).scrollIntoView({ behavior: "smooth", block: "nearest" });
    Promise.all([query.play(), hit.play()]).catch(() => {});
  });
})();
