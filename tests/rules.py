"""Runs the tests of a module as counted rules: a line for each, and a last line that `scripts/check.sh` adds up."""

import signal
import sys
import unittest

# Far more than any takes on an idle machine; CI shares its machine with others.
LIMIT_SECONDS = 600


def too_long(*_):
    raise TimeoutError(f"it takes more than {LIMIT_SECONDS} s")


class Rules(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.held = 0

    def startTest(self, test):
        super().startTest(test)
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(LIMIT_SECONDS)

    def stopTest(self, test):
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test):
        self.held += 1
        print(f"ok      {sentence(test)}", flush=True)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.tell(test, self.failures)

    def addError(self, test, error):
        super().addError(test, error)
        self.tell(test, self.errors)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.tell(subtest, self.failures if issubclass(error[0], test.failureException) else self.errors)

    def tell(self, test, told):
        print(f"BROKEN  {sentence(test)}\n{told[-1][1]}", flush=True)


def sentence(test):
    case = getattr(test, "test_case", test)
    name = case.id().rpartition(".")[2].removeprefix("test_").replace("_", " ")
    return name if case is test else f"{name}: {test._subDescription()}"


def run(name):
    """Runs all tests of `__main__`; ends the program, with 1 if a rule is broken."""
    rules = Rules()
    unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]).run(rules)
    broken = len(rules.failures) + len(rules.errors)
    print(f"{name}: {rules.held} rules hold, {broken} broken")
    sys.exit(broken > 0 or rules.held == 0)
