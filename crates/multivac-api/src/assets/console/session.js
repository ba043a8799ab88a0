
// --- who is here: signed in or not, light or dark ------------------------------------------------------------------------------
// The password is the browser's affair (HTTP Basic, at the edge): it asks for it, and sends it. The page neither sees nor keeps it,
// and can only find out whether one is needed, and whether the last try was let in.

const PROTECTED = "/multivac/dead?limit=1";
const session = {
  // "unknown", "open" (no password is needed here), "in", or "out".
  state: "unknown",
  changed: new Set(),
  get mayRead() {
    return this.state === "open" || this.state === "in";
  },
  set(state) {
    const was = this.state;
    this.state = state;
    keep(forThisTab, "signed-in", state === "in" ? true : undefined);
    const words = { unknown: "", open: "No password needed", in: "Signed in", out: "Not signed in" };
    at("signed").textContent = words[state];
    at("signed").dataset.state = state;
    at("signed-foot").textContent = { open: "No password is needed here.", in: "Signed in; to sign out, close the browser." }[state] ?? "";
    at("signed-foot").dataset.state = state;
    at("sign-in").hidden = state !== "out";
    say("feed-signed", state === "out" ? "Feeding needs a password here. Your browser asks for it when you feed, or when you sign in." : "");
    if (was !== state) for (const told of this.changed) told(state);
  },
  // What a call says about it. Only a call with the browser's password does.
  heard(failure) {
    if (failure?.status === 401) this.set("out");
    else if (this.state === "out" && !failure) this.set("in");
  },
};

// Without credentials, so that the browser does not ask anybody anything.
async function findOut() {
  try {
    await call(PROTECTED, { credentials: "omit", timeout: 10_000 });
    session.set("open");
  } catch (error) {
    if (error.status === 401) session.set(kept(forThisTab, "signed-in", false) ? "in" : "out");
    else if (error.status === 404) session.set("open");
    else if (session.state === "unknown") setTimeout(findOut, backoff(4, error.after) * 1000);
  }
}

at("sign-in").onclick = async () => {
  try {
    await call(PROTECTED, { timeout: 300_000 });
    session.set("in");
    say("banner", "");
  } catch (error) {
    if (error.status === 401) session.set("out");
    say("banner", error.status === 401 ? "Not signed in: a user name and its password are needed." : `Not signed in: ${error.message}`);
  }
};

// Through here goes what needs the password.
async function authorised(path, options) {
  try {
    // Somebody may have to find a password first.
    const reply = await call(path, { ...options, ...(session.state === "out" && { timeout: 300_000 }) });
    session.heard(null);
    return reply;
  } catch (error) {
    if (error.status === 401) session.heard(error);
    throw error;
  }
}
const needsSignIn = error => (error.status === 401 ? "this needs a user name and a password: sign in, then try again" : error.message);

// The theme: the system's, until somebody chooses.
const THEMES = ["system", "light", "dark"];
const THEME_WORDS = { system: ["◐", "as the system has it"], light: ["☀", "light"], dark: ["☾", "dark"] };
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const [sign, words] = THEME_WORDS[theme];
  at("theme").firstElementChild.textContent = sign;
  at("theme").setAttribute("aria-label", `Theme: ${words}`);
  at("theme").title = `Theme: ${words}`;
}
setTheme(THEMES.find(theme => theme === kept(forGood, "theme", "system")) ?? "system");
at("theme").onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  keep(forGood, "theme", next === "system" ? undefined : next);
  setTheme(next);
};
