extension String {
  /// The text with what could end a line or move a cursor written as `\u{…}`.
  package var quotedForLog: String { quotedForLog(bytesMax: .max) }

  /// The same of a text that others have chosen the length of, too: so many bytes of it, and `…` for more.
  package func quotedForLog(bytesMax: Int = 200) -> String {
    var result = ""
    for scalar in unicodeScalars {
      let part =
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate:
          "\\u{\(String(scalar.value, radix: 16))}"
        default:
          String(Character(scalar))
        }
      guard result.utf8.count + part.utf8.count <= bytesMax else { return result + "…" }
      result += part
    }
    return result
  }
}
