import ConformanceCases
import TestSupport
import Testing

@testable import GrenacheFraming

private let roles = [WebSocketRole.server, .client]

private func setting(_ bits: Int = 15, takeover: Bool = true, level: Int = 6) -> DeflateSetting {
  var setting = DeflateSetting()
  setting.agreement.serverNoContextTakeover = !takeover
  setting.agreement.clientNoContextTakeover = !takeover
  setting.agreement.serverMaxWindowBits = bits
  setting.agreement.clientMaxWindowBits = bits
  setting.options = WebSocketDeflate(keepsContext: takeover, messageBytesMin: 0, level: level)
  return setting
}

@Suite("RFC 7692 §7.2 Messages")
struct DeflateMessageTests {
  static let hello: [UInt8] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]

  private func read(_ frames: [UInt8], _ setting: DeflateSetting = setting()) -> [WebSocketEvent] {
    readFrames(frames, role: .client, deflate: setting)
  }

  @Test("the examples of §7.2.3")
  func examples() {
    let hello = WebSocketEvent.message(.text, Array("Hello".utf8))
    #expect(read([0xc1, 0x07] + Self.hello) == [hello])
    #expect(read([0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00]) == [hello])
    // §7.2.3.2: the second message refers to the first.
    let second: [UInt8] = [0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00]
    #expect(read([0xc1, 0x07] + Self.hello + second) == [hello, hello])
    let without = read([0xc1, 0x07] + Self.hello + second, setting(takeover: false))
    #expect(without == [hello, .error(1007)])
    // §7.2.3.3: stored blocks. §7.2.3.4: a final block. §7.2.3.5: two blocks in one message.
    let stored: [UInt8] = [0x00, 0x05, 0x00, 0xfa, 0xff] + Array("Hello".utf8) + [0x00]
    #expect(read([0xc1, 0x0b] + stored) == [hello])
    #expect(read([0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]) == [hello])
    let blocks: [UInt8] = [
      0xc1, 0x0d, 0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ]
    #expect(read(blocks) == [hello])
    // §7.2.3.6: an empty message.
    #expect(read([0xc1, 0x01, 0x00]) == [.message(.text, [])])
  }

  @Test("RSV1 stands on the first frame of a data message and nowhere else, §6", arguments: roles)
  func rsv1(_ role: WebSocketRole) {
    let ping = frame(.ping, [], to: role, isCompressed: true)
    let close = frame(.close, [], to: role, isCompressed: true)
    let continued =
      frame(.text, Array(Self.hello.prefix(3)), to: role, isFinal: false, isCompressed: true)
      + frame(.continuation, Array(Self.hello.dropFirst(3)), to: role, isCompressed: true)
    let late =
      frame(.text, [], to: role, isFinal: false)
      + frame(.continuation, Self.hello, to: role, isCompressed: true)
    for input in [ping, close, continued, late] {
      #expect(readFrames(input, role: role, deflate: setting()) == [.error(1002)])
    }
    let message = frame(.text, Self.hello, to: role, isCompressed: true)
    #expect(readFrames(message, role: role) == [.error(1002)])
    var others = message
    for bits in [UInt8(0xa1), 0x91, 0xe1, 0xd1, 0xf1] {
      others[0] = bits
      #expect(readFrames(others, role: role, deflate: setting()) == [.error(1002)])
    }
  }

  @Test("uncompressed messages go between compressed ones")
  func mixed() {
    let compressed = frame(.text, Self.hello, to: .client, isCompressed: true)
    let plain = frame(.text, Array("plain".utf8), to: .client)
    let hello = WebSocketEvent.message(.text, Array("Hello".utf8))
    let expected = [hello, .message(.text, Array("plain".utf8)), hello]
    #expect(read(compressed + plain + compressed) == expected)
  }

  @Test("every window, with and without context, in whole and in fragments", arguments: 8...15)
  func windows(_ bits: Int) {
    let payloads = [
      prose(10), prose(3_000), prose(3_000), noise(500), [], prose(70_000), prose(70_000, seed: 9),
      [UInt8](repeating: 0, count: 60_000), prose(1),
    ]
    let expected = payloads.map { WebSocketEvent.message(.binary, $0) }
    for takeover in [true, false] {
      for level in [1, 6] {
        let setting = setting(bits, takeover: takeover, level: level)
        for role in roles {
          for fragmentBytes in [Int.max, 997] {
            let input = setting.frames(payloads, to: role, fragmentBytes: fragmentBytes)
            let events = readFrames(input, role: role, deflate: setting).filter { $0 != .ping([]) }
            #expect(events == expected, "takeover \(takeover), level \(level), \(fragmentBytes)")
          }
        }
      }
    }
  }

  @Test("context pays: the second of two equal messages is much shorter")
  func context() {
    let once = setting().frames([prose(5_000)], to: .client).count
    let twice = setting().frames([prose(5_000), prose(5_000)], to: .client).count
    #expect(twice - once < once / 20)
    let without = setting(takeover: false)
    #expect(without.frames([prose(5_000), prose(5_000)], to: .client).count >= 2 * once - 10)
  }

  @Test("what does not become smaller is sent as it is")
  func incompressible() {
    let input = setting(takeover: false).frames([noise(300)], to: .client)
    #expect(input == frame(.binary, noise(300), to: .client))
  }

  @Test("what a peer would take for a bomb is sent as it is, and nothing refers to it later")
  func implausible() {
    let zeros = [UInt8](repeating: 0, count: 1 << 20)
    for takeover in [true, false] {
      var careful = setting(takeover: takeover)
      careful.options.ratioMax = 100
      let payloads = [
        prose(2_000), zeros, prose(2_000), zeros, prose(2_000),
        zeros.prefix(200_000) + noise(300_000),
        noise(300_000) + zeros.prefix(100_000), prose(300_000), Array(zeros.prefix(65_535)),
        Array(zeros.prefix(65_536)),
      ]
      let input = careful.frames(payloads, to: .client)
      #expect(input.count > 2 << 20)
      let events = readFrames(input, role: .client, deflate: careful)
      #expect(events == payloads.map { .message(.binary, $0) })
    }
  }

  @Test(
    "what is not deflate, or not whole, closes with 1007",
    arguments: [
      [0xff], [0x07], [0xf2, 0x48, 0xcd, 0xc9], [0x06], [0x00, 0x05, 0x00, 0xfa],
      [0x00, 0x05, 0x00, 0xfb, 0xff], [0xf2, 0x00, 0x11, 0x00, 0x00],
    ] as [[UInt8]])
  func invalid(_ payload: [UInt8]) {
    for role in roles {
      let input = frame(.binary, payload, to: role, isCompressed: true)
      #expect(readFrames(input, role: role, deflate: setting()) == [.error(1007)])
    }
  }

  @Test("text is checked behind the inflation, across fragments")
  func text() {
    let payloads = [Array("κόσμε 😀 ".utf8), Array(String(repeating: "é", count: 900).utf8)]
    for fragmentBytes in [1, 2, 3, 7, .max] {
      let input = setting().frames(payloads, .text, to: .server, fragmentBytes: fragmentBytes)
      let limits = WebSocketLimits(fragmentsMax: .max)
      let events = readFrames(input, role: .server, limits: limits, deflate: setting())
      #expect(events.filter { $0 != .ping([]) } == payloads.map { .message(.text, $0) })
    }
    let bad = setting().frames([prose(20) + [0xff] + prose(20)], .text, to: .server)
    #expect(readFrames(bad, role: .server, deflate: setting()) == [.error(1007)])
    let cut = setting().frames([prose(20) + [0xc3]], .text, to: .server)
    #expect(readFrames(cut, role: .server, deflate: setting()) == [.error(1007)])
  }

  @Test("of two faults the first counts, in whatever pieces the message comes")
  func order() {
    let limits = WebSocketLimits(messageBytesMax: 5_000)
    let tooBig = prose(6_000)
    for (message, code) in [([0xff] + tooBig, UInt16(1007)), (tooBig + [0xff], 1009)] {
      let input = setting().frames([message], .text, to: .server)
      for cut in 0...input.count {
        let events = readFrames(
          input, role: .server, cuts: [cut], limits: limits, deflate: setting())
        #expect(events == [.error(code)], "cut at \(cut)")
      }
    }
  }
}

@Suite("P7 Compressed messages are bounded by what really comes out")
struct DeflateLimitTests {
  @Test("a message at the limit and one past it", arguments: roles)
  func size(_ role: WebSocketRole) {
    let input = setting().frames([prose(5_000)], to: role)
    func read(_ limit: Int) -> [WebSocketEvent] {
      readFrames(
        input, role: role, limits: WebSocketLimits(messageBytesMax: limit), deflate: setting())
    }
    #expect(read(5_000) == [.message(.binary, prose(5_000))])
    #expect(read(4_999) == [.error(1009)])
  }

  @Test("noise at the limit is not refused for what deflate adds to it")
  func noiseAtLimit() {
    var stored = setting(level: 1)
    stored.options.keepsContext = true
    let input = stored.frames([noise(1 << 20)], to: .client)
    #expect(input.count > 1 << 20)
    #expect(
      readFrames(input, role: .client, deflate: stored) == [.message(.binary, noise(1 << 20))])
  }

  @Test("a compressed frame that is too long by itself is refused by its head, P9")
  func head() {
    let limits = WebSocketLimits(messageBytesMax: 1_000)
    let start = Array(frame(.binary, noise(1_066), to: .client, isCompressed: true).prefix(4))
    #expect(readFrames(start, role: .client, limits: limits, deflate: setting()) == [.error(1009)])
  }

  @Test("a bomb of 10 MiB ends with 1009, in whole and in fragments")
  func bomb() {
    var sender = setting(level: 9)
    sender.options.ratioMax = 2_000
    let bomb = sender.frames([[UInt8](repeating: 0, count: 10 << 20)], to: .server)
    #expect(bomb.count < 15_000)
    #expect(readFrames(bomb, role: .server, deflate: setting()) == [.error(1009)])
    let cuts = Array(stride(from: 1, to: bomb.count, by: 97))
    #expect(readFrames(bomb, role: .server, cuts: cuts, deflate: setting()) == [.error(1009)])
    let large = WebSocketLimits(messageBytesMax: 1 << 30)
    #expect(readFrames(bomb, role: .server, limits: large, deflate: setting()) == [.error(1009)])
    var trusting = setting()
    trusting.options.ratioMax = 2_000
    let events = readFrames(bomb, role: .server, limits: large, deflate: trusting)
    #expect(events == [.message(.binary, [UInt8](repeating: 0, count: 10 << 20))])
  }

  @Test("final blocks without end do not loop, and cost no more than their bytes")
  func finalBlocks() {
    let block: [UInt8] = [0x03, 0x00]
    let blocks = [[UInt8]](repeating: block, count: 10_000).flatMap(\.self)
    let input = frame(.binary, blocks + [0x00], to: .client, isCompressed: true)
    #expect(readFrames(input, role: .client, deflate: setting()) == [.message(.binary, [])])
  }

  @Test("every split gives the same messages; mutated input always ends")
  func splits() {
    let payloads = [prose(200), Array("κόσμε".utf8), prose(300), []]
    let setting = setting(10)
    let input = setting.frames(payloads, to: .server, fragmentBytes: 40)
    let whole = readFrames(input, role: .server, deflate: setting)
    #expect(whole.contains(.message(.binary, prose(300))))
    #expect(
      readFrames(input, role: .server, cuts: Array(1..<input.count), deflate: setting) == whole)
    for cut in 0...input.count {
      #expect(readFrames(input, role: .server, cuts: [cut], deflate: setting) == whole)
    }
    var generator = SeededGenerator(seed: 3)
    let limits = WebSocketLimits(messageBytesMax: 500)
    for round in 0..<5_000 {
      var mutated = input
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let index = Int.random(in: 0..<mutated.count, using: &generator)
        mutated[index] = UInt8.random(in: 0...255, using: &generator)
      }
      let cut = Int.random(in: 0...mutated.count, using: &generator)
      let whole = readFrames(mutated, role: .server, limits: limits, deflate: setting)
      let split = readFrames(mutated, role: .server, cuts: [cut], limits: limits, deflate: setting)
      #expect(whole == split, "round \(round)")
    }
  }
}
