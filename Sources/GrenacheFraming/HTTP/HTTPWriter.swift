/// What a response says about the connection (RFC 9112 §9.3).
package struct HTTPConnectionField: Hashable, Sendable {
  package var keepsAlive: Bool
  /// Told as `Keep-Alive: timeout=`, in seconds.
  package var idleSeconds: Int

  package init(keepsAlive: Bool, idleSeconds: Int) {
    self.keepsAlive = keepsAlive
    self.idleSeconds = idleSeconds
  }
}

/// Writing messages. What a caller passes is checked: no field can split a message.
extension [UInt8] {
  /// A request's head; `contentLength` is `nil` for a request without a body.
  package mutating func appendHTTPRequestHead(
    _ method: HTTPMethod, target: String, host: String, fields: HTTPFields, contentLength: Int?
  ) throws(HTTPError) {
    let start = count
    do throws(HTTPError) {
      try appendHTTPToken(method.name)
      append(space)
      guard !target.isEmpty, target.utf8.allSatisfy(HTTPCharacters.isTarget) else {
        throw HTTPError(400, "RFC 9112 §3.2", "an invalid request target", origin: .local)
      }
      append(contentsOf: target.utf8)
      append(contentsOf: " HTTP/1.1\r\n".utf8)
      try appendHTTPField("Host", host)
      for line in fields.lines { try appendHTTPField(line.name, line.value) }
      if let contentLength { appendHTTPLength(contentLength) }
      append(contentsOf: "\r\n".utf8)
    } catch {
      removeLast(count - start)
      throw error
    }
  }

  /// A response's head, with the fields that every response of a server has; without
  /// `Content-Length` for a status that has no body (RFC 9110 §8.6).
  package mutating func appendHTTPResponseHead(
    _ status: HTTPStatus, fields: HTTPFields, contentLength: Int, date: [UInt8],
    connection: HTTPConnectionField
  ) throws(HTTPError) {
    guard status.code / 100 != 1 else {
      throw HTTPError(500, "RFC 9110 §15.2", "an interim status for an answer", origin: .local)
    }
    let start = count
    do throws(HTTPError) {
      appendHTTPStatusLine(status)
      for line in fields.lines { try appendHTTPField(line.name, line.value) }
    } catch {
      removeLast(count - start)
      throw error
    }
    appendHTTPCommonFields(
      contentLength: status.hasNoBody ? nil : contentLength, date: date, connection: connection)
  }

  /// The same without fields of the caller, which cannot fail.
  package mutating func appendHTTPResponseHead(
    _ status: HTTPStatus, contentLength: Int, date: [UInt8], connection: HTTPConnectionField
  ) {
    appendHTTPStatusLine(status)
    appendHTTPCommonFields(contentLength: contentLength, date: date, connection: connection)
  }

  /// `100 Continue` (RFC 9110 §15.2.1).
  package mutating func appendHTTPContinue() {
    append(contentsOf: "HTTP/1.1 100 Continue\r\n\r\n".utf8)
  }

  /// `101 Switching Protocols` (RFC 9110 §15.2.2).
  package mutating func appendHTTPSwitchingProtocols(fields: HTTPFields) throws(HTTPError) {
    appendHTTPStatusLine(.switchingProtocols)
    for line in fields.lines { try appendHTTPField(line.name, line.value) }
    append(contentsOf: "\r\n".utf8)
  }

  /// The head of a chunk of `size` bytes, which CR LF follows (RFC 9112 §7.1).
  package mutating func appendHTTPChunkHead(size: Int) {
    append(contentsOf: String(size, radix: 16).utf8)
    append(contentsOf: "\r\n".utf8)
  }

  mutating func appendHTTPStatusLine(_ status: HTTPStatus) {
    append(contentsOf: "HTTP/1.1 ".utf8)
    appendHTTPNumber(status.code)
    append(space)
    append(contentsOf: status.reasonPhrase.utf8)
    append(contentsOf: "\r\n".utf8)
  }

  private mutating func appendHTTPCommonFields(
    contentLength: Int?, date: [UInt8], connection: HTTPConnectionField
  ) {
    append(contentsOf: "Date: ".utf8)
    append(contentsOf: date)
    if connection.keepsAlive {
      append(contentsOf: "\r\nConnection: keep-alive\r\nKeep-Alive: timeout=".utf8)
      appendHTTPNumber(connection.idleSeconds)
      append(contentsOf: "\r\n".utf8)
    } else {
      append(contentsOf: "\r\nConnection: close\r\n".utf8)
    }
    if let contentLength { appendHTTPLength(contentLength) }
    append(contentsOf: "\r\n".utf8)
  }

  private mutating func appendHTTPLength(_ length: Int) {
    append(contentsOf: "Content-Length: ".utf8)
    appendHTTPNumber(length)
    append(contentsOf: "\r\n".utf8)
  }

  /// Decimal digits without a detour over a string.
  mutating func appendHTTPNumber(_ number: Int) {
    guard number >= 10 else { return append(0x30 + UInt8(clamping: Swift.max(number, 0))) }
    appendHTTPNumber(number / 10)
    append(0x30 + UInt8(number % 10))
  }

  private mutating func appendHTTPToken(_ token: String) throws(HTTPError) {
    guard !token.isEmpty, token.utf8.allSatisfy(HTTPCharacters.isToken) else {
      throw HTTPError(500, "RFC 9110 §5.6.2", "\"\(token)\" is not a token", origin: .local)
    }
    append(contentsOf: token.utf8)
  }

  mutating func appendHTTPField(
    _ name: String, _ value: String
  ) throws(HTTPError) {
    try appendHTTPToken(name)
    guard value.utf8.allSatisfy(HTTPCharacters.isFieldValue) else {
      throw HTTPError(
        500, "RFC 9110 §5.5", "a control character in the field \(name)", origin: .local)
    }
    append(contentsOf: ": ".utf8)
    append(contentsOf: value.utf8)
    append(contentsOf: "\r\n".utf8)
  }
}
