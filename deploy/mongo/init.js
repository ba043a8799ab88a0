// mongosh runs this (`mongosh --nodb init.js`) at every `docker compose up` and with every release on Kubernetes: it makes the members
// a replica set and creates the applications' user, who may use their own database and nothing else. What exists is kept, but the
// passwords become those of the files, and members that are new are added. None is ever removed: that is an operator's to decide.
//
// MEMBERS   the members, with commas between them; docker compose's one unless given. The first has the administrator from its start on.
const fs = require("fs");
const secret = (name) => fs.readFileSync(`/run/secrets/mongo/${name}`, "utf8").trim();
const members = (process.env.MEMBERS || "mongo:27017").split(",");

// mongosh waits for the server by itself where it can see that it has to; in functions that are passed on it cannot, hence `await`.

// A member alone, whatever the set thinks of it.
const direct = async (host) => {
  const connection = await new Mongo(`mongodb://${host}/?directConnection=true&serverSelectionTimeoutMS=30000&socketTimeoutMS=60000`);
  return connection.getDB("admin");
};

// On Kubernetes the members start one after the other, and a name is in DNS some seconds after its pod is ready.
const patiently = async (action) => {
  for (const end = Date.now() + 15 * 60 * 1000; ; ) {
    try {
      return await action();
    } catch (error) {
      if (Date.now() > end) throw error;
      print(`waiting: ${error.message}`);
      await sleep(2000);
    }
  }
};

const passes = async (admin, password) => {
  try {
    return (await admin.auth("root", password)).ok === 1;
  } catch (refused) {
    if (refused.code !== 18) throw refused; // 18: AuthenticationFailed
    return false;
  }
};

// Logs in. True if that took one of the previous passwords, which scripts/setup.py --rotate mongo keeps, the latest first.
const isOutdated = async (admin) => {
  if (await passes(admin, secret("root_password"))) return false;
  const before = fs.existsSync("/run/secrets/mongo/root_password.old") ? secret("root_password.old").split("\n") : [];
  for (const password of before) if (await passes(admin, password)) return true;
  throw new Error("the administrator's password is none that is known: MongoDB's data are older than the secret");
};

const main = async () => {
  // Each is asked, and must answer, before a set is made: the first may have lost its disk while the others still have the data.
  let isSet = false;
  for (const host of members) {
    const hello = await patiently(async () => (await direct(host)).hello());
    isSet = isSet || Boolean(hello.setName);
  }
  if (!isSet) {
    const first = await direct(members[0]);
    await isOutdated(first);
    const config = { _id: "rs0", members: members.map((host, _id) => ({ _id, host })) };
    await patiently(async () => {
      // What an attempt whose answer was lost has made is there.
      if ((await first.hello()).setName) return;
      await first.runCommand({ replSetInitiate: config });
    });
  }

  // Elections take some seconds.
  const admin = await patiently(async () => {
    for (const host of members) {
      const candidate = await direct(host);
      if ((await candidate.hello()).isWritablePrimary) return candidate;
    }
    throw new Error("no member is the primary yet");
  });
  if (await isOutdated(admin)) await admin.changeUserPassword("root", secret("root_password"));

  // One at a time, as MongoDB wants it; each fills itself from the others.
  for (const host of members) {
    const { config } = await admin.runCommand({ replSetGetConfig: 1 });
    if (config.members.some((member) => member.host === host)) continue;
    const _id = Math.max(...config.members.map((member) => member._id)) + 1;
    const changed = { ...config, version: config.version + 1, members: [...config.members, { _id, host }] };
    await admin.runCommand({ replSetReconfig: changed });
    print(`added ${host}`);
  }

  const own = admin.getSiblingDB("multivac");
  const rights = { pwd: secret("app_password"), roles: [{ role: "readWrite", db: "multivac" }] };
  if (await own.getUser("multivac")) await own.updateUser("multivac", rights);
  else await own.createUser({ user: "multivac", ...rights });
};

// The end of the script is waited for, since this is its value; and mongosh's status says how it went.
main().then(
  () => quit(0),
  (error) => {
    print(`mongo-init: ${error.message}`);
    quit(1);
  },
);
