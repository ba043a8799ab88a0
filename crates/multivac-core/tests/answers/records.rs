//! Text whose lines are records, and text that is hard to cut into sentences: each case is what was fed, what was asked, and
//! what the answer must hold and must not hold.

use super::{answer, index};

/// What is asked of a text, and what is in the answer, or is not where it begins with `!`.
struct Case {
    fed: &'static str,
    asked: &'static [(&'static str, &'static [&'static str])],
}

/// Other data, so that no word is rare merely because there is nothing else.
const OTHERS: &[&str] = &[
    "The Rhine rises in the Alps. It is some 1,230 km long. Its largest city is Cologne.",
    "Bread is baked from flour and water. A baker gets up at 3 a.m. every day.",
    "The committee met on Monday and adjourned without a decision.",
];

const CASES: &[Case] = &[
    Case {
        fed: "2026-11-28 10:00:01 INFO orders: accepted order 99 from the web shop in Tarn\n\
            2026-11-28 10:00:02 ERROR payments: could not write invoice 4711 because the disk is full\n\
            2026-11-28 10:00:03 INFO mail: sent 12 letters to the customers of the northern region\n\
            2026-11-28 10:00:04 WARN stock: Item 12 is running low. Ordered more of it at the usual dealer\n\
            2026-11-28 10:00:05 INFO backup: copied the ledger to the second machine in the cellar",
        asked: &[
            ("Why could payments not write invoice 4711?", &["4711 because the disk is full", "!orders", "!mail"]),
            ("Where was the ledger copied?", &["to the second machine", "!stock"]),
        ],
    },
    Case {
        fed: "Nov 28 10:00:01 orm sshd[812]: Accepted publickey for petra from 10.0.0.7 port 5022\n\
            Nov 28 10:00:05 orm kernel: Out of memory: Killed process 4711 (java).\n\
            Nov 28 10:00:09 orm cron[99]: (root) CMD (run-parts /etc/cron.hourly)",
        asked: &[(
            "Which process did the kernel of orm kill out of memory?",
            &["Killed process 4711", "!petra", "!cron"],
        )],
    },
    Case {
        fed: "name;street;city;phone\nPetra Lind;12 Mill Lane;Orm;555-1234\nJon Abt;3 Hill Road;Tarn;555-9876\n\
            Mira Voss;9 Lake View;Orm;555-4444",
        asked: &[("What is the phone number of Jon Abt?", &["Jon Abt;3 Hill Road;Tarn;555-9876", "!Petra", "!name;"])],
    },
    Case {
        fed: "name,role,phone\nPetra Lind,\"cook, baker\",555-1234\nJon Abt,miller,555-9876\nMira Voss,smith,555-4444",
        asked: &[("What is the phone number of Petra Lind?", &["Petra Lind,\"cook, baker\",555-1234", "!Jon"])],
    },
    Case {
        fed: "[10:32] tobias: the big key hangs behind the stove\n[10:33] mira: thanks. and the small one?\n\
            [10:34] petra: i am late today\n[10:35] jon: the bread is in the oven",
        asked: &[("Where does the big key hang?", &["tobias: the big key hangs behind the stove", "!mira", "!petra"])],
    },
    Case {
        fed: "milk is in the fridge\nthe big key hangs behind the stove\nbread is in the blue box\nthe cat sleeps upstairs",
        asked: &[("Where does the big key hang?", &["the big key hangs behind the stove", "!milk", "!bread"])],
    },
    Case {
        fed: "max_connections = 20\nlisten_address = 10.0.0.7\nlog_level = debug\ndata_directory = /srv/orm",
        asked: &[("What is the listen_address?", &["10.0.0.7", "!debug"])],
    },
    Case {
        fed: "The winners of the race are:\n- Petra Lind\n- Jon Abt",
        asked: &[("Who are the winners of the race?", &["Petra Lind"])],
    },
    Case {
        fed: "The winners of the race are:\n\n1. Petra Lind\n\n2. Jon Abt",
        asked: &[("Who are the winners of the race?", &["Petra Lind"])],
    },
    Case {
        fed: "\"Who has the key?\" asked Mira. \"Tobias has the key,\" answered the cook.",
        asked: &[("Who has the key?", &["Tobias has the key", "!asked Mira"])],
    },
    Case {
        fed: "„Wer hat den Schlüssel?“ fragte Mira. „Tobias hat den Schlüssel“, antwortete der Koch.",
        asked: &[("Wer hat den Schlüssel?", &["Tobias hat den Schlüssel", "!fragte"])],
    },
    Case {
        fed: "Orders for the mill go to Messrs. Lind and Abt of Orm. They come on Mondays.",
        asked: &[("To whom do orders for the mill go?", &["Messrs. Lind and Abt of Orm."])],
    },
    Case {
        fed: "Der Vertrag von Orm wurde am 3. Oktober 1990 geschlossen. Der 1. FC Tarn gewann das Spiel.",
        asked: &[("Wann wurde der Vertrag von Orm geschlossen?", &["am 3. Oktober 1990 geschlossen.", "!FC"])],
    },
    Case {
        fed: "The mill was built in 1874.<ref>{{cite book|title=Mills. A history|year=1990}}</ref> It burned down in 1912.",
        asked: &[("When was the mill built?", &["The mill was built in 1874.", "!cite", "!ref"])],
    },
    Case {
        fed: "BEGIN:VCARD\nFN:Petra Lind\nTEL:555-1234\nEND:VCARD\nBEGIN:VCARD\nFN:Jon Abt\nTEL:555-9876\nEND:VCARD",
        asked: &[("What is the tel of Jon Abt?", &["555-9876", "!555-1234"])],
    },
    Case {
        fed: "1\n00:00:01,000 --> 00:00:04,000\nThe old key of the mill lies\nunder the mat by the door.\n\n\
            2\n00:00:05,000 --> 00:00:06,000\nNobody knows where the map is.",
        asked: &[("Where does the old key of the mill lie?", &["under the mat by the door.", "!-->", "!map"])],
    },
];

#[test]
fn a_record_answers_alone_and_a_sentence_as_a_whole() {
    let mut wrong = Vec::new();
    for case in CASES {
        let texts: Vec<&str> = OTHERS.iter().copied().chain([case.fed]).collect();
        let (index, _) = index(&texts);
        for (asked, expected) in case.asked {
            let reply = answer(&asked.parse().unwrap(), &index.snapshot(), 0.0).unwrap();
            let right = expected.iter().all(|part| match part.strip_prefix('!') {
                Some(part) => !reply.text().contains(part),
                None => reply.text().replace('\n', " ").contains(part),
            });
            if !right {
                wrong.push((*asked, reply.text().to_owned()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
