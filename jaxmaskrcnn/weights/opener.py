"""Asks a server for an address, and follows it to another one where that is safe."""

import urllib.request
from urllib.parse import quote, urlsplit, urlunsplit

_AS_THEY_ARE = "%/:=&?~+!$,;'@()*[]"  # in a path and in a query


class TransferError(Exception):
    """A transfer that did not succeed: the server has no such file, or another one."""


def ascii_address(address: str) -> str:
    """An address with other letters in percent codes, as a browser sends it.

    Raises:
        UnicodeError: Its host is no name.

    Example:
        >>> ascii_address("https://a.org/gewichte_\u00fc.pth?v=%20")
        'https://a.org/gewichte_%C3%BC.pth?v=%20'
    """
    parts = urlsplit(address)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    path, query = (quote(text, safe=_AS_THEY_ARE) for text in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from https to http, where anybody on the way could change the file."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """See the class."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise TransferError(f"the server leads from https to {newurl}")
        if not newurl.lower().startswith(("https://", "http://")):
            raise TransferError(f"the server leads to {newurl}, which is neither https nor http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req, fp, code, msg, headers):
        """Closes the answer also where its redirection is not followed, which urllib leaves open."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except (TransferError, ValueError):
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


OPENER = urllib.request.build_opener(Redirects)
