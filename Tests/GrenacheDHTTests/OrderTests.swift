import TestSupport
import Testing

@testable import GrenacheDHT

@Suite("What makes room is found in a few steps")
struct OrderTests {
  @Test("a heap gives its elements back in order")
  func heap() {
    var generator = SeededGenerator(seed: 1)
    for count in 0..<50 {
      let numbers = (0..<count).map { _ in Int.random(in: 0..<20, using: &generator) }
      var heap = Heap<Int>()
      for number in numbers { heap.insert(number) }
      var taken: [Int] = []
      while let first = heap.first {
        taken.append(first)
        heap.removeFirst()
      }
      #expect(taken == numbers.sorted())
    }
  }

  @Test("values renewed again and again: places that are out of date are dropped, none is lost")
  func renewed() {
    var generator = SeededGenerator(seed: 2)
    var order = ItemOrder()
    var expiries: [[UInt8]: Duration] = [:]
    func isCurrent(_ place: ItemOrder.Place) -> Bool { expiries[place.target] == place.expiry }
    for step in 0..<10_000 {
      let target = [UInt8.random(in: 0..<100, using: &generator)]
      // Some are renewed to the very same time, as what is kept alive is.
      let expiry = Duration.seconds(target[0] < 50 ? 1_000_000 : step)
      expiries[target] = expiry
      order.add(.init(expiry: expiry, target: target), among: expiries.count, isCurrent: isCurrent)
      #expect(order.count <= 2 * expiries.count + 33)
    }
    var taken: [[UInt8]] = []
    while let first = order.first(isCurrent: isCurrent) {
      taken.append(first.target)
      expiries[first.target] = nil
    }
    #expect(taken.count == 100 && Set(taken).count == 100)
    #expect(taken.suffix(50) == (0..<50).map { [$0] })
  }

  @Test("who has most, whoever comes and goes, is who a look at all of them finds")
  func largest() {
    var generator = SeededGenerator(seed: 3)
    var owners = LargestOwner<DHTHost>()
    var counts: [UInt32: Int] = [:]
    for _ in 0..<10_000 {
      let ip = UInt32.random(in: 1...30, using: &generator)
      if Bool.random(using: &generator) {
        owners.add(DHTHost(ip: ip))
        counts[ip, default: 0] += 1
      } else if let count = counts[ip] {
        owners.remove(DHTHost(ip: ip))
        counts[ip] = count > 1 ? count - 1 : nil
      }
      let largest = counts.max { ($0.value, $0.key) < ($1.value, $1.key) }
      #expect(owners.largest() == largest.map { DHTHost(ip: $0.key) })
    }
  }

  /// The rule as it is said: of whoever has most, or of this caller, the one that expires first.
  private struct PlainStore {
    struct Value {
      let owner: UInt32?
      let caller: UInt8?
      let expiry: Duration
    }
    var values: [[UInt8]: Value] = [:]

    mutating func evict(where isOne: (Value) -> Bool) {
      let first = values.filter { isOne($0.value) }.min {
        ($0.value.expiry, $0.key[0]) < ($1.value.expiry, $1.key[0])
      }
      if let first { values[first.key] = nil }
    }

    mutating func makeRoom() {
      let counts = Dictionary(grouping: values.values.compactMap(\.owner)) { $0 }.mapValues(\.count)
      let largest = counts.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key
      evict { largest == nil || $0.owner == largest }
    }
  }

  @Test("P30 the store keeps what a look at all values would have kept")
  func store() throws {
    var generator = SeededGenerator(seed: 4)
    var configuration = DHTConfiguration()
    configuration.itemsMax = 40
    configuration.itemsPerCallerMax = 8
    configuration.itemsPerAddressMax = 12
    var store = ItemStore(configuration)
    var plain = PlainStore()
    for step in 0..<5_000 {
      let target = [UInt8.random(in: 0...255, using: &generator)]
      guard store[target] == nil else { continue }
      let isOwn = Bool.random(using: &generator)
      let caller = isOwn ? UInt8.random(in: 0..<3, using: &generator) : nil
      let owner = isOwn ? nil : UInt32(0x0808_0801) + UInt32.random(in: 0..<6, using: &generator)
      // Not in the order in which they come.
      let expiry = Duration.seconds(100_000 + Int.random(in: 0..<1_000, using: &generator))
      do throws(KRPCErrorCode) {
        _ = try store.insert(
          DHTItem(value: target), at: target, owner: owner.map { DHTHost(ip: $0) },
          by: caller.map { DHTCaller([$0]) }, compareAndSwap: nil, now: .seconds(step),
          until: expiry)
      } catch {
        #expect(plain.values.values.count { $0.owner == owner } == 12)
        continue
      }
      if let caller, plain.values.values.count(where: { $0.caller == caller }) >= 8 {
        plain.evict { $0.caller == caller }
      }
      if plain.values.count >= 40 { plain.makeRoom() }
      plain.values[target] = .init(owner: owner, caller: caller, expiry: expiry)
      #expect(Set(store.all.map(\.target)) == Set(plain.values.keys))
    }
  }

  @Test("announcements are drawn by chance, each of those that are good as often as others")
  func drawn() {
    var generator = SeededGenerator(seed: 5)
    var known = KeyAnnouncements()
    func peer(_ port: UInt16) -> DHTAddress { DHTAddress(ip: 1, port: port) }
    for port in 1...12 as ClosedRange<UInt16> {
      known.set(peer(port), .init(expiry: .seconds(port == 12 ? 1 : 9), isOwn: false))
    }
    #expect(known.remove(peer(3)) != nil && known.remove(peer(3)) == nil)
    var counts: [UInt16: Int] = [:]
    for _ in 0..<10_000 {
      let ports = known.draw(4, at: .seconds(1), using: &generator) { $0.port == 5 ? nil : $0.port }
      #expect(ports.count == 4 && Set(ports).count == 4)
      for port in ports { counts[port, default: 0] += 1 }
    }
    #expect(Set(counts.keys) == [1, 2, 4, 6, 7, 8, 9, 10, 11])
    #expect(counts.values.allSatisfy { (4_250...4_640).contains($0) }, "\(counts)")
    #expect(known.draw(99, at: .zero, using: &generator) { $0 }.count == 11)
  }
}
