/// Writing messages whose bodies come in parts (RFC 9112 §7.1).
extension [UInt8] {
  /// The head of a response whose length is not known yet.
  ///
  /// - Parameter isChunked: whether the body is sent in chunks; without, the end of the stream ends
  ///   it, which a peer of HTTP/1.0 needs (RFC 9112 §6.3, rule 8).
  package mutating func appendHTTPStreamedResponseHead(
    _ status: HTTPStatus, fields: HTTPFields, date: [UInt8], connection: HTTPConnectionField,
    isChunked: Bool
  ) throws(HTTPError) {
    let start = count
    do throws(HTTPError) {
      appendHTTPStatusLine(status)
      for line in fields.lines { try appendHTTPField(line.name, line.value) }
    } catch {
      removeLast(count - start)
      throw error
    }
    append(contentsOf: "Date: ".utf8)
    append(contentsOf: date)
    if connection.keepsAlive, isChunked {
      append(contentsOf: "\r\nConnection: keep-alive\r\nKeep-Alive: timeout=".utf8)
      appendHTTPNumber(connection.idleSeconds)
    } else {
      append(contentsOf: "\r\nConnection: close".utf8)
    }
    append(contentsOf: isChunked ? "\r\nTransfer-Encoding: chunked\r\n\r\n".utf8 : "\r\n\r\n".utf8)
  }

  /// One chunk, framed; none for no bytes, which would end the body.
  package mutating func appendHTTPChunk(_ bytes: Span<UInt8>) {
    guard bytes.count > 0 else { return }
    appendHTTPChunkHead(size: bytes.count)
    bytes.append(to: &self)
    append(contentsOf: "\r\n".utf8)
  }

  /// What ends a body in chunks: the last chunk and an empty trailer section.
  package mutating func appendHTTPLastChunk() {
    append(contentsOf: "0\r\n\r\n".utf8)
  }
}
