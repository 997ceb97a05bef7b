/// A request method (RFC 9110 §9), open to extension.
package struct HTTPMethod: Hashable, Sendable, CustomStringConvertible {
  package let name: String

  package init(_ name: String) { self.name = name }

  package static let get = HTTPMethod("GET")
  package static let head = HTTPMethod("HEAD")
  package static let post = HTTPMethod("POST")
  package static let put = HTTPMethod("PUT")
  package static let delete = HTTPMethod("DELETE")
  package static let connect = HTTPMethod("CONNECT")
  package static let options = HTTPMethod("OPTIONS")
  package static let trace = HTTPMethod("TRACE")

  package var description: String { name }

  /// The method that a token names; short names allocate nothing, and the common ones cost least.
  @inline(__always)
  init(_ token: Span<UInt8>) {
    switch (token.count, token[0]) {
    case (3, 0x47) where token[1] == 0x45 && token[2] == 0x54: self.init("GET")
    case (4, 0x50) where token[1] == 0x4f && token[2] == 0x53 && token[3] == 0x54:
      self.init("POST")
    default: self.init(token.string())
    }
  }
}

/// A version of HTTP/1 (RFC 9112 §2.3).
package enum HTTPVersion: Hashable, Sendable {
  case http10
  case http11
}

/// A status code (RFC 9110 §15), open to extension.
package struct HTTPStatus: Hashable, Sendable, CustomStringConvertible {
  package let code: Int

  package init(code: Int) { self.code = code }

  package static let switchingProtocols = HTTPStatus(code: 101)
  package static let ok = HTTPStatus(code: 200)
  package static let movedPermanently = HTTPStatus(code: 301)
  package static let found = HTTPStatus(code: 302)
  package static let badRequest = HTTPStatus(code: 400)
  package static let forbidden = HTTPStatus(code: 403)
  package static let notFound = HTTPStatus(code: 404)
  package static let requestTimeout = HTTPStatus(code: 408)
  package static let contentTooLarge = HTTPStatus(code: 413)
  package static let upgradeRequired = HTTPStatus(code: 426)
  package static let internalServerError = HTTPStatus(code: 500)
  package static let serviceUnavailable = HTTPStatus(code: 503)

  package var description: String { "\(code) \(reasonPhrase)" }

  /// The phrase that RFC 9110 §15 gives; empty for a code it does not know.
  package var reasonPhrase: String {
    switch code {
    case 100: "Continue"
    case 101: "Switching Protocols"
    case 200: "OK"
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 304: "Not Modified"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 411: "Length Required"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 417: "Expectation Failed"
    case 426: "Upgrade Required"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
  }

  /// Whether a response with this status never has a body (RFC 9112 §6.3, rule 1).
  package var hasNoBody: Bool { code / 100 == 1 || code == 204 || code == 304 }
}

/// Field lines that somebody keeps: names and values in the order in which they came.
package struct HTTPFields: Hashable, Sendable, ExpressibleByArrayLiteral {
  package struct Line: Hashable, Sendable {
    package var name: String
    package var value: String
  }
  package private(set) var lines: [Line] = []

  package init() {}

  package init(arrayLiteral elements: (String, String)...) {
    lines = elements.map { Line(name: $0.0, value: $0.1) }
  }

  package mutating func append(_ name: String, _ value: String) {
    lines.append(Line(name: name, value: value))
  }

  /// The values of every line of that name, in either case, joined as RFC 9110 §5.3 allows.
  package subscript(_ name: String) -> String? {
    let values = lines.filter { $0.name.equalsIgnoringCase(name) }.map(\.value)
    return values.isEmpty ? nil : values.joined(separator: ", ")
  }

  /// Whether the comma-separated list under `name` has `token`, in either case.
  package func has(_ token: String, in name: String) -> Bool {
    guard let list = self[name] else { return false }
    return list.split(separator: ",").contains { element in
      element.trimmingSpaces().equalsIgnoringCase(token)
    }
  }
}

extension StringProtocol {
  /// Whether both are the same but for the case of ASCII letters.
  package func equalsIgnoringCase(_ other: some StringProtocol) -> Bool {
    utf8.count == other.utf8.count
      && zip(utf8, other.utf8).allSatisfy {
        HTTPCharacters.lowercased($0) == HTTPCharacters.lowercased($1)
      }
  }

  /// Without spaces and tabs at both ends (OWS, RFC 9110 §5.6.3).
  package func trimmingSpaces() -> String {
    var text = Substring(self)
    while let first = text.first, first == " " || first == "\t" { text.removeFirst() }
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return String(text)
  }
}
