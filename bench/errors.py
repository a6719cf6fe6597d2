"""The one error that a user is meant to read: what is wrong, where, and what to do."""


class BenchError(Exception):
    """A fault in the input or the set-up. The command line prints it as one message, without a traceback.

    `what` says what is wrong, `where` names the file, key or row, `remedy` says what to do about it.
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, str(where), remedy
        parts = [f"{where}: {what}" if where else what, remedy]
        super().__init__(" ".join(part for part in parts if part))
