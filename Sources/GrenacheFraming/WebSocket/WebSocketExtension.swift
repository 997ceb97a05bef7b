/// One element of `Sec-WebSocket-Extensions` (RFC 6455 §9.1): an offer of a client, or the choice of a
/// server.
struct WebSocketExtension: Hashable {
  struct Parameter: Hashable {
    var name: String
    var value: String?
  }
  var name: String
  var parameters: [Parameter] = []

  /// The elements of a field's value, or `nil` when it does not follow the grammar.
  static func parse(_ value: String) -> [WebSocketExtension]? {
    var cursor = HTTPTextCursor(value)
    var extensions: [WebSocketExtension] = []
    repeat {
      cursor.skipSpaces()
      guard let name = cursor.token() else { return nil }
      var element = WebSocketExtension(name: name.asciiLowercased())
      cursor.skipSpaces()
      while cursor.skip(semicolon) {
        guard let parameter = parameter(&cursor) else { return nil }
        element.parameters.append(parameter)
        cursor.skipSpaces()
      }
      extensions.append(element)
    } while cursor.skip(comma)
    return cursor.isAtEnd ? extensions : nil
  }

  /// `token [ "=" ( token / quoted-string ) ]`; what is quoted must be a token, too.
  private static func parameter(_ cursor: inout HTTPTextCursor) -> Parameter? {
    cursor.skipSpaces()
    guard let name = cursor.token() else { return nil }
    guard cursor.skip(equalsSign) else { return Parameter(name: name.asciiLowercased()) }
    let isQuoted = cursor.skip(quotationMark)
    guard let value = cursor.token(), !isQuoted || cursor.skip(quotationMark) else { return nil }
    return Parameter(name: name.asciiLowercased(), value: value)
  }
}

/// Reads the small grammars of field values, from front to back.
struct HTTPTextCursor {
  private let bytes: [UInt8]
  private var index = 0

  init(_ text: String) {
    bytes = Array(text.utf8)
  }

  var isAtEnd: Bool { index == bytes.count }

  mutating func skipSpaces() {
    while index < bytes.count, bytes[index] == space || bytes[index] == tab { index += 1 }
  }

  /// Skips `byte` if it is next; returns whether it was.
  mutating func skip(_ byte: UInt8) -> Bool {
    guard index < bytes.count, bytes[index] == byte else { return false }
    index += 1
    return true
  }

  /// The token that begins here (RFC 9110 §5.6.2); `nil` when none does.
  mutating func token() -> String? {
    let start = index
    while index < bytes.count, HTTPCharacters.isToken(bytes[index]) { index += 1 }
    return index > start ? String(decoding: bytes[start..<index], as: UTF8.self) : nil
  }
}

extension String {
  func asciiLowercased() -> String {
    String(decoding: utf8.map(HTTPCharacters.lowercased), as: UTF8.self)
  }
}
