"use strict";
const form = document.getElementById("form");
const drop = document.getElementById("drop");
const input = document.getElementById("files");
const locked = document.getElementById("locked");
const token = document.getElementById("token");
const message = document.getElementById("message");
const answers = document.getElementById("answers");
let waiting = [];

function say(text, wrong = false) {
  message.textContent = text;
  message.classList.toggle("wrong", wrong);
}

function element(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

async function classify(files) {
  waiting = files;
  if (!files.length) return;
  const body = new FormData();
  for (const file of files) body.append("image", file);
  const headers = token.value ? { Authorization: "Bearer " + token.value } : {};
  say(files.length === 1 ? "Classifying…" : `Classifying ${files.length} images…`);
  const began = performance.now();
  try {
    const response = await fetch("predict?top=5", { method: "POST", body, headers });
    const answer = await response.json();
    if (response.status === 401) {
      locked.hidden = false;
      say(token.value ? "That is not the server's token." : "The server asks for its token.", true);
      token.focus();
      return;
    }
    if (!response.ok) {
      say(answer.error, true);
      return;
    }
    locked.hidden = true;
    show(files, answer, Math.round(performance.now() - began));
  } catch {
    say("The server did not answer. Is it running?", true);
  }
}

function show(files, answer, milliseconds) {
  for (const old of answers.querySelectorAll("img")) URL.revokeObjectURL(old.src);
  answers.replaceChildren(...answer.predictions.map(({ top }, i) => row(files[i], top)));
  say(`Model ${answer.model}, ${milliseconds} ms with the way there and back.`);
  waiting = [];
}

function row(file, top) {
  const image = element("img");
  image.alt = "";
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 64));
  image.src = URL.createObjectURL(file);
  const list = element("ol", ...top.map((one) => {
    const meter = element("meter");
    meter.value = one.probability;
    meter.setAttribute("aria-hidden", "true");
    const share = (100 * one.probability).toFixed(1) + " %";
    return element("li", meter, element("div", element("span", one.class), element("span", share)));
  }));
  return element("li", element("figure", image, element("figcaption", file.name)), list);
}

input.addEventListener("change", () => classify([...input.files]));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  classify(waiting);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  classify([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) classify(files);
});
