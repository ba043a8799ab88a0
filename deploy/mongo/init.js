// mongosh runs this (`mongosh --nodb init.js`) at every `docker compose up` and with every release on Kubernetes: it makes the members
// a replica set and creates the applications' user, who may use their own database and nothing else. What exists is kept, but the
// passwords become those of the files, and members that are new are added. None is ever removed: that is an operator's to decide.
//
// MEMBERS   the members, with commas between them; docker compose's one unless given. The first has the administrator from its start on.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/mongo/${name}`, "utf8").trim();
const members = (process.env.MEMBERS || "mongo:27017").split(",");

// A member alone, whatever the set thinks of it.
const direct = (host) => new Mongo(`mongodb://${host}/?directConnection=true&serverSelectionTimeoutMS=10000&socketTimeoutMS=30000`).getDB("admin");

const passes = (admin, password) => {
  try {
    return admin.auth("root", password).ok === 1;
  } catch (refused) {
    if (refused.code !== 18) throw refused; // 18: AuthenticationFailed
    return false;
  }
};
// Logs in. True if that took one of the previous passwords, which scripts/setup.py --rotate mongo keeps, the latest first.
const isOutdated = (admin) => {
  if (passes(admin, secret("root_password"))) return false;
  const before = fs.existsSync("/run/secrets/mongo/root_password.old") ? secret("root_password.old").split("\n") : [];
  if (before.some((password) => passes(admin, password))) return true;
  throw new Error("the administrator's password is none that is known: MongoDB's data are older than the Secret");
};

// On Kubernetes the members start one after the other, and a name is in DNS some seconds after its pod is ready.
const patiently = (action) => {
  for (const end = Date.now() + 15 * 60 * 1000; ; ) {
    try {
      return action();
    } catch (error) {
      if (Date.now() > end) throw error;
      print(`waiting: ${error.message}`);
      sleep(2000);
    }
  }
};

// Each is asked, and must answer, before a set is made: the first may have lost its disk while the others still have the data.
const found = members.map((host) => patiently(() => ({ host, hello: direct(host).hello() })));
if (!found.some(({ hello }) => hello.setName)) {
  const first = direct(members[0]);
  isOutdated(first);
  patiently(() => first.runCommand({ replSetInitiate: { _id: "rs0", members: members.map((host, _id) => ({ _id, host })) } }));
}

// Elections take some seconds.
let primary;
for (let second = 0; !primary && second < 60; second++) {
  primary = members.find((host) => patiently(() => direct(host).hello().isWritablePrimary));
  if (!primary) sleep(1000);
}
if (!primary) throw new Error(`no member of ${members} has become the primary within a minute`);

const admin = direct(primary);
if (isOutdated(admin)) admin.changeUserPassword("root", secret("root_password"));

// One at a time, as MongoDB wants it; each fills itself from the others.
for (const host of members) {
  const config = admin.runCommand({ replSetGetConfig: 1 }).config;
  if (config.members.some((member) => member.host === host)) continue;
  const _id = Math.max(...config.members.map((member) => member._id)) + 1;
  const added = { ...config, version: config.version + 1, members: [...config.members, { _id, host }] };
  admin.runCommand({ replSetReconfig: added });
  print(`added ${host}`);
}

const own = admin.getSiblingDB("multivac");
const rights = { pwd: secret("app_password"), roles: [{ role: "readWrite", db: "multivac" }] };
if (own.getUser("multivac")) own.updateUser("multivac", rights);
else own.createUser({ user: "multivac", ...rights });
