import Foundation
import Grenache
import GrenacheCommandSupport

/// A service and its port, as people and programs write them in a line.
struct ServiceLine: Hashable {
  var service: String
  var port: UInt16

  /// How lines are written.
  enum Form: Hashable {
    /// `service,port`, with that in between.
    case delimited(String)
    /// `["service",port]` or `{"data":["service",port]}`
    case json
  }

  /// - Throws: `CommandFailure` that shows the line and says what it should be.
  init(_ line: String, _ form: Form) throws {
    switch form {
    case .delimited(let delimiter): try self.init(line, delimiter: delimiter)
    case .json: try self.init(json: line)
    }
  }

  private init(_ line: String, delimiter: String) throws {
    guard !delimiter.isEmpty, let range = line.range(of: delimiter, options: .backwards),
      let service = Optional(line[..<range.lowerBound].trimmingCharacters(in: .whitespaces)),
      let port = UInt16(line[range.upperBound...].trimmingCharacters(in: .whitespaces)), port > 0,
      !service.isEmpty
    else { throw CommandFailure(.data, "\(line.quotedForLog()) is not service\(delimiter)port.") }
    (self.service, self.port) = (service, port)
  }

  private init(json: String) throws {
    let value = try? JSONSerialization.jsonObject(with: Data(json.utf8))
    let list = (value as? [String: Any])?["data"] ?? value
    guard let pair = list as? [Any], pair.count >= 2, let service = pair[0] as? String,
      !service.isEmpty, let port = Self.port(pair[1])
    else {
      throw CommandFailure(
        .data,
        "\(json.quotedForLog()) is neither [\"service\",port] nor {\"data\":[\"service\",port]}.")
    }
    (self.service, self.port) = (service, port)
  }

  /// A number, or a string that is one.
  private static func port(_ value: Any) -> UInt16? {
    let number = (value as? String).map { Int($0) } ?? value as? Int
    return number.flatMap { UInt16(exactly: $0) }.flatMap { $0 > 0 ? $0 : nil }
  }

  /// What is left of a line of standard input without its comment, which begins with `#` or `;`; `nil` for
  /// nothing. In JSON a string may hold both, and what stands in the delimiter begins no comment.
  static func content(of line: String, _ form: Form) -> String? {
    var marks: Set<Unicode.Scalar> = ["#", ";"]
    if case .delimited(let delimiter) = form { marks.subtract(delimiter.unicodeScalars) }
    var isInString = false
    var isEscaped = false
    let end = line.unicodeScalars.firstIndex { scalar in
      guard form == .json else { return marks.contains(scalar) }
      if isEscaped {
        isEscaped = false
      } else if scalar == "\\" {
        isEscaped = isInString
      } else if scalar == "\"" {
        isInString.toggle()
      }
      return !isInString && marks.contains(scalar)
    }
    let text = line[..<(end ?? line.endIndex)].trimmingCharacters(in: .whitespaces)
    return text.isEmpty ? nil : text
  }
}
