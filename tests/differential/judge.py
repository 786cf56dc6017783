"""Looks at each answer. A refusal agrees; so does a belief that is the gateway's."""
import tally
from oracle import disagreements

PROBLEM = b"application/problem+json"
# In all that the gateway answers or passes on.
OF_THE_GATEWAY = b"\r\nx-request-id:"


def is_refusal(answer):
    return PROBLEM in answer.head


class Judge:
    def __init__(self, backends):
        self.backends, self.tally = backends, tally.Tally()

    def __call__(self, asked, answer):
        outcome, belief = self._outcome(asked, answer)
        self.tally.count(asked, outcome)
        if belief is not None and "none" in belief.places:
            self.tally.nowhere[asked.backend] += 1

    def _outcome(self, asked, answer):
        if answer is None:
            self._found(asked, tally.FAULT, "no answer", (asked.backend, "no answer"))
            return tally.FAULT, None
        if is_refusal(answer):
            self.tally.statuses[answer.status] += 1
            if answer.status < 500:
                return tally.REFUSED, None
            self._found(asked, tally.FAULT, f"{answer.head!r}\n{answer.body!r}", (asked.backend, answer.status))
            return tally.FAULT, None
        belief = self.backends[asked.backend].read(answer.body)
        if belief is None and OF_THE_GATEWAY not in answer.head.lower():
            text = f"an answer that is neither a refusal of the gateway nor a backend's: {answer}"
            self._found(asked, tally.FAULT, text, (asked.backend, "nobody's answer", answer.status))
            return tally.FAULT, None
        if belief is None:
            return tally.BACKEND_REFUSED, None
        found = disagreements(asked.target, belief)
        if not found:
            return tally.AGREED, belief
        text = "\n".join([f"judged as {belief.route}",
                          *(f"{each.kind}: judged {each.asked!r}, believed {each.believed!r}" for each in found)])
        signature = (asked.backend, *sorted({
            f"{each.kind} {each.asked} → {each.believed}" if each.kind == "route" else each.kind for each in found}))
        self._found(asked, tally.DISAGREED, text, signature)
        return tally.DISAGREED, belief

    def _found(self, asked, outcome, text, signature):
        self.tally.findings.append(tally.Finding(asked, outcome, text, signature))
