"""Encryption of what this service writes for itself alone: only who has the key in the data directory can read it."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class Cipher:
    """Authenticated encryption of text with ``Fernet`` (AES-128-CBC and HMAC-SHA256).

    ``keys`` is one key, or several separated by white space: the first encrypts, all of them decrypt. Raises ValueError
    where one is no key.
    """

    def __init__(self, keys: bytes) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys.split()])

    @classmethod
    def with_new_key(cls) -> "Cipher":
        """Return a cipher whose texts nobody can read once it is gone."""
        return cls(Fernet.generate_key())

    def encrypt(self, text: str) -> str:
        """Return ``text`` as one line of ASCII."""
        return self._fernet.encrypt(text.encode(errors="surrogatepass")).decode()

    def decrypt(self, token: str) -> str:
        """Return the text of ``token``. Raises ValueError where it is damaged, or not of this key."""
        try:
            return self._fernet.decrypt(token).decode(errors="surrogatepass")
        except InvalidToken:
            raise ValueError("cannot be decrypted: damaged, or encrypted with another key") from None
