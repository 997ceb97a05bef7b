import GrenacheFraming

/// The cases of closing: 7.
extension ConformanceCase {
  private static let closed = WebSocketEvent.close(1000, "")

  /// 7.1, 7.3, 7.5: what follows a close frame counts for nothing, and what it may hold.
  package static let closing: [ConformanceCase] = {
    let a = WebSocketEvent.message(.text, [0x61])
    let stars = [UInt8](repeating: 0x2a, count: 124)
    return [
      ConformanceCase("7.1.1", [.text("a"), .goodbye], [a, closed]),
      ConformanceCase("7.1.2", [.goodbye, .goodbye], [closed]),
      ConformanceCase("7.1.3", [.goodbye, Frame(0x89, [])], [closed]),
      ConformanceCase("7.1.4", [.goodbye, .text("a")], [closed]),
      ConformanceCase("7.1.5", [.text("a", 0x01), .goodbye, .text("b", 0x80)], [closed]),
      ConformanceCase("7.3.1", [Frame(0x88, [])], [.close(nil, "")]),
      ConformanceCase("7.3.2", [Frame(0x88, [3])], [.error(1002)]),
      ConformanceCase("7.3.3", [.close(1000)], [closed]),
      ConformanceCase("7.3.4", [.close(1000, Array("bye".utf8))], [.close(1000, "bye")]),
      ConformanceCase(
        "7.3.5", [.close(1000, Array(stars.dropLast()))],
        [.close(1000, String(repeating: "*", count: 123))]),
      ConformanceCase("7.3.6", [.close(1000, stars)], [.error(1002)]),
      ConformanceCase("7.5.1", [.close(1000, [0xce, 0xba, 0xed, 0xa0, 0x80])], [.error(1007)]),
    ]
  }()

  /// 7.7: every code that may be sent.
  package static let closeCodes: [ConformanceCase] =
    (Array(1000...1003) + Array(1007...1014) + [3000, 3999, 4000, 4999]).map { code in
      ConformanceCase("7.7, \(code)", [.close(code)], [.close(UInt16(code), "")])
    }

  /// 7.9, 7.13: every code that may not.
  package static let forbiddenCloseCodes: [ConformanceCase] = [
    0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
  ].map { code in ConformanceCase("7.9, \(code)", [.close(code)], [.error(1002)]) }

  /// All cases but those of limits and of compression.
  package static var all: [ConformanceCase] {
    lengths + pings + reservedBits + reservedOpcodes + fragments + [automatic]
      + sequences(within: 0) + sequences(within: 9) + cutCharacters + failFast + unfinished
      + closing + closeCodes + forbiddenCloseCodes
  }
}
