/// The first line at which a text is not PEM (RFC 7468 §2), for messages.
///
/// OpenSSL passes over what it does not take for the beginning of a block, so that a certificate could be
/// missing unnoticed.
struct PEMFault: Hashable, Error, CustomStringConvertible {
  /// Counted from 1.
  var line: Int
  var reason: String

  var description: String { "line \(line) \(reason)" }

  private enum Place {
    case outside
    /// Within a block; headers (RFC 1421 §4.6) may precede the base64.
    case block(label: [UInt8], line: Int, hasBody: Bool)
  }

  /// `nil` when every block is whole; text between blocks is none of its business (§2).
  init?(in bytes: [UInt8]) {
    var place = Place.outside
    let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    do throws(PEMFault) {
      for (index, line) in lines.enumerated() {
        let trimmed = line[
          ..<(line.lastIndex { !Self.isSpace($0) }.map { $0 + 1 } ?? line.startIndex)]
        place = try Self.step(place, Array(trimmed), line: index + 1)
      }
      if case .block(_, let line, _) = place {
        throw PEMFault(line: line, reason: "begins a block that does not end")
      }
      return nil
    } catch {
      self = error
    }
  }

  private init(line: Int, reason: String) {
    self.line = line
    self.reason = reason
  }

  private static func step(
    _ place: Place, _ text: [UInt8], line: Int
  ) throws(PEMFault) -> Place {
    switch place {
    case .outside:
      if text.starts(with: "-----END ".utf8) {
        throw PEMFault(line: line, reason: "ends a block that has not begun")
      }
      guard text.starts(with: "-----BEGIN ".utf8) else { return .outside }
      guard let label = label(text, behind: "-----BEGIN ") else {
        throw PEMFault(line: line, reason: "begins a block and does not end with \"-----\"")
      }
      return .block(label: label, line: line, hasBody: false)
    case .block(let label, let start, let hasBody):
      if text.starts(with: "-----".utf8) {
        guard Self.label(text, behind: "-----END ") == label else {
          throw PEMFault(line: line, reason: "does not end the block of line \(start)")
        }
        return .outside
      }
      let isHeader = !hasBody && text.contains(UInt8(ascii: ":"))
      if isHeader || text.isEmpty { return place }
      // A header may go on in a line that begins with a space.
      if !hasBody, isSpace(text[0]) { return place }
      guard text.allSatisfy(isBase64) else {
        throw PEMFault(line: line, reason: "is not base64, in the block of line \(start)")
      }
      return .block(label: label, line: start, hasBody: true)
    }
  }

  private static func label(_ text: [UInt8], behind start: String) -> [UInt8]? {
    let dashes = Array("-----".utf8)
    guard text.count > start.utf8.count + dashes.count, text.suffix(5) == dashes[...] else {
      return nil
    }
    return Array(text[start.utf8.count..<(text.count - dashes.count)])
  }

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x09 || byte == 0x0d
  }

  private static func isBase64(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"),
      UInt8(ascii: "="):
      true
    default:
      isSpace(byte)
    }
  }
}
