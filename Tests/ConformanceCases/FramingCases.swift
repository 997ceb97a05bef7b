import GrenacheFraming

/// The cases of framing, pings, reserved bits and opcodes, and fragments: 1 to 5, and 10.
extension ConformanceCase {
  private static let closed = WebSocketEvent.close(1000, "")
  private static func message(_ text: String) -> WebSocketEvent {
    .message(.text, Array(text.utf8))
  }

  /// 1.1, 1.2: messages of every length class.
  package static let lengths: [ConformanceCase] = [
    0, 1, 125, 126, 127, 128, 65_535, 65_536,
  ].flatMap { count in
    let text = [UInt8](repeating: 0x2a, count: count)
    let bytes = [UInt8](repeating: 0xfe, count: count)
    return [
      ConformanceCase(
        "1.1 of \(count)", [Frame(0x81, text), .goodbye], [.message(.text, text), closed]),
      ConformanceCase(
        "1.2 of \(count)", [Frame(0x82, bytes), .goodbye], [.message(.binary, bytes), closed]),
    ]
  }

  private static func control(_ first: UInt8, _ count: Int) -> Frame {
    Frame(first, [UInt8](repeating: 0xfe, count: count))
  }

  /// 2: pings and pongs.
  package static let pings: [ConformanceCase] = {
    let bytes125 = [UInt8](repeating: 0xfe, count: 125)
    let ping = { control(0x89, $0) }
    let pong = { control(0x8a, $0) }
    return [
      ConformanceCase("2.1", [ping(0), .goodbye], [.ping([]), closed]),
      ConformanceCase("2.3", [ping(1), .goodbye], [.ping([0xfe]), closed]),
      ConformanceCase("2.4", [ping(125), .goodbye], [.ping(bytes125), closed]),
      ConformanceCase("2.5", [ping(126)], [.error(1002)]),
      ConformanceCase("2.7", [pong(0), .goodbye], [.pong([]), closed]),
      ConformanceCase("2.8", [pong(125), .goodbye], [.pong(bytes125), closed]),
      ConformanceCase("2.9", [pong(1), ping(0), .goodbye], [.pong([0xfe]), .ping([]), closed]),
      ConformanceCase(
        "2.10", [Frame](repeating: ping(2), count: 10) + [.goodbye],
        [WebSocketEvent](repeating: .ping([0xfe, 0xfe]), count: 10) + [closed]),
    ]
  }()

  /// 3: reserved bits without an extension.
  package static let reservedBits: [ConformanceCase] = (1...7).flatMap { bits in
    ([0x1, 0x2, 0x8, 0x9, 0xa] as [UInt8]).map { opcode in
      ConformanceCase(
        "3.\(bits), opcode \(opcode)",
        [.text("a"), Frame(0x80 | UInt8(bits << 4) | opcode, [0x2a]), .goodbye],
        [message("a"), .error(1002)])
    }
  }

  /// 4: reserved opcodes.
  package static let reservedOpcodes: [ConformanceCase] =
    ([3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] as [UInt8]).flatMap { opcode in
      [[], Array("reserved".utf8)].map { payload in
        ConformanceCase(
          "4.\(opcode), \(payload.count) bytes",
          [.text("a"), Frame(0x80 | opcode, payload), .goodbye], [message("a"), .error(1002)])
      }
    }

  /// 5: fragments in order, out of order, and with control frames between them.
  package static let fragments: [ConformanceCase] = {
    let ping = Frame(0x89, [7])
    let first = Frame.text("frag", 0x01)
    let middle = Frame.text("ment", 0x00)
    let last = Frame.text("ed", 0x80)
    return [
      ConformanceCase("5.1", [Frame(0x09, [7]), .text("", 0x80)], [.error(1002)]),
      ConformanceCase("5.2", [Frame(0x0a, [7]), .text("", 0x80)], [.error(1002)]),
      ConformanceCase("5.3", [first, last], [message("fraged")]),
      ConformanceCase("5.6", [first, ping, last], [.ping([7]), message("fraged")]),
      ConformanceCase("5.9", [.text("a", 0x80), .text("b")], [.error(1002)]),
      ConformanceCase("5.12", [.text("a", 0x00), .text("b")], [.error(1002)]),
      ConformanceCase(
        "5.15", [first, last, .text("x", 0x00), last], [message("fraged"), .error(1002)]),
      ConformanceCase("5.18", [first, .text("second")], [.error(1002)]),
      ConformanceCase(
        "5.19", [first, middle, ping, middle, middle, ping, last],
        [.ping([7]), .ping([7]), message("fragmentmentmented")]),
      ConformanceCase(
        "5.20", [first, ping, last, .text("a"), ping, .goodbye],
        [.ping([7]), message("fraged"), message("a"), .ping([7]), closed]),
      ConformanceCase("binary in text", [first, .text("x", 0x02)], [.error(1002)]),
      ConformanceCase(
        "empty parts", [.text("", 0x01), .text("", 0x00), .text("", 0x80)], [message("")]),
      ConformanceCase("close between", [first, .goodbye, last], [closed]),
    ]
  }()

  /// 10.1: 64 KiB in frames of 1,300 bytes.
  package static let automatic: ConformanceCase = {
    let payload = [UInt8](repeating: 0x2a, count: 65_536)
    return ConformanceCase(
      "10.1", cut(payload, opcode: 0x01, into: 1_300), [.message(.text, payload)])
  }()

  /// `payload` in fragments of `size` bytes.
  package static func cut(_ payload: [UInt8], opcode: UInt8, into size: Int) -> [Frame] {
    stride(from: 0, to: payload.count, by: size).map { start in
      let isLast = start + size >= payload.count
      return Frame(
        (isLast ? 0x80 : 0) | (start == 0 ? opcode : 0),
        Array(payload[start..<min(start + size, payload.count)]))
    }
  }
}
