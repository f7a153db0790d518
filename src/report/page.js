(function () {
  "use strict";
  let sounding = null;
  for (const audio of document.querySelectorAll("audio")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "play";
    button.title = audio.title;
    button.setAttribute("aria-label", "Play: " + audio.title);
    audio.controls = false;
    audio.before(button);
    button.addEventListener("click", function () {
      if (!audio.paused) { audio.pause(); audio.currentTime = 0; return; }
      if (sounding && sounding !== audio) { sounding.pause(); sounding.currentTime = 0; }
      sounding = audio;
      audio.play();
    });
    const show = function () {
      button.classList.toggle("on", !audio.paused && !audio.ended);
      button.style.setProperty("--at", audio.paused ? 0 : 100 * audio.currentTime / (audio.duration || 1));
    };
    for (const event of ["play", "pause", "ended", "timeupdate"]) audio.addEventListener(event, show);
  }
  for (const box of document.querySelectorAll(".scroll")) {
    const more = document.createElement("p");
    more.className = "more";
    more.hidden = true;
    more.textContent = "more columns to the right \u2192";
    box.before(more);
    const look = function () { more.hidden = box.scrollWidth - box.clientWidth - box.scrollLeft < 8; };
    new ResizeObserver(look).observe(box);
    box.addEventListener("scroll", look);
  }
})();
