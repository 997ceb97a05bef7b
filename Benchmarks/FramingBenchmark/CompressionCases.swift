import GrenacheFraming

/// gzip and permessage-deflate of 16 KiB of JSON.
enum CompressionCases {
  static var all: [Case] {
    [encode, decode]
  }

  private static let json: [UInt8] = {
    var text = "["
    for number in 0..<400 { text += "{\"id\":\(number),\"name\":\"worker-\(number * 7)\"}," }
    return Array(text.utf8.prefix(16 << 10))
  }()

  private static var encode: Case {
    Case(name: "gzip, level 1", unit: .bytes, mayAllocate: true) {
      let json = json
      return {
        guard let encoded = try? Gzip.encode(json.span), !encoded.isEmpty else {
          fatalError("no memory")
        }
        return json.count
      }
    }
  }

  private static var decode: Case {
    Case(name: "gunzip", unit: .bytes, mayAllocate: true) {
      guard let encoded = try? Gzip.encode(json.span) else { fatalError("no memory") }
      let limits = InflateLimits(outputBytesMax: 1 << 20)
      return {
        guard let decoded = try? Gzip.decode(encoded.span, limits: limits) else {
          fatalError("damaged")
        }
        return decoded.count
      }
    }
  }
}
