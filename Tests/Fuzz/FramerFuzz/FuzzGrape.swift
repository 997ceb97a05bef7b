@testable import Grenache
@testable import GrenacheDHT
@testable import GrenacheGrape

/// The body of a request to a grape's API, or of a watch, which is one of a lookup.
func fuzzGrapeRequest(_ input: FuzzInput) {
  let targets = ["/announce", "/withdraw", "/lookup", "/put", "/get", "/"]
  let target = targets[Int(input.mode) % targets.count]
  switch GrapeRequest.parse(target: target, body: input.bytes) {
  case .success(.announce(let key, _, _)), .success(.withdraw(let key, _, _)),
    .success(.lookup(let key)):
    require(key.count <= GrapeRequest.keyBytesMax, "a key over its limit")
  case .success(.put(let item, _)):
    require(item.valueBytes < DHTItem.valueBytesMax, "a value over its limit")
    require(
      item.signature?.salt.count ?? 0 <= DHTItem.saltBytesMax, "a salt over its limit")
  case .success(.get(let target, _, _)):
    require(target.count == 20, "a target that is none")
  case .failure(.error(let text)), .failure(.failure(_, let text)):
    require(!text.isEmpty, "refused without a reason")
  case .failure(.empty): break
  }
}

/// What a grape says to a link: answers, whole or in lines, and what it tells somebody who watches. A cut
/// makes no difference to the lines.
func fuzzGrapeAnswer(_ input: FuzzInput) {
  func lines(_ cut: Int, _ isInLines: Bool) -> [[UInt8]] {
    var answer = GrapeAnswer(isInLines: isInLines)
    var lines: [[UInt8]] = []
    for piece in [input.bytes[..<cut], input.bytes[cut...]] {
      guard answer.append(Array(piece)) else { return lines + [[0]] }
      while let line = answer.nextLine() { lines.append(line) }
    }
    return lines + [answer.rest]
  }
  for isInLines in [true, false] {
    let whole = lines(0, isInLines)
    require(whole == lines(input.cut, isInLines), "a cut at \(input.cut) makes a difference")
    for line in whole { read(line) }
  }
}

private func read(_ answer: [UInt8]) {
  func explains(_ read: () throws(GrenacheError) -> Void) {
    do throws(GrenacheError) {
      try read()
    } catch {
      require(!error.message.isEmpty, "refused without a reason")
    }
  }
  let most = 1
  explains { () throws(GrenacheError) in
    require(
      try GrapeMessages.endpoints(in: answer, max: most).count <= most, "more than was asked for")
  }
  explains { () throws(GrenacheError) in _ = try GrapeMessages.putAnswer(answer) }
  explains { () throws(GrenacheError) in _ = try GrapeMessages.isWithdrawn(answer) }
  explains { () throws(GrenacheError) in _ = try GrapeMessages.storedCount(in: answer) }
  let watched = GrapeMessages.announcers(of: "news", in: answer, max: most)
  require(watched?.count ?? 0 <= most, "more than was asked for")
  _ = GrapeMessages.cannotAnnounce(answer)
  guard let target = ItemTarget("6d33adc2b6b2c14c3036feefb7fedbca1a880527") else {
    return require(false, "no target")
  }
  explains { () throws(GrenacheError) in
    _ = try StoredItem(answer, target: target, salt: "")
  }
}
