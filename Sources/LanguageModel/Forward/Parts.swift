/// A range cut into parts of nearly one length.
enum Parts {
    static func of(_ range: Range<Int>, atMost limit: Int) -> some Sequence<Range<Int>> {
        let count = (range.count + limit - 1) / limit
        return (0..<count).lazy.map { index in
            range.lowerBound + range.count * index / count..<range.lowerBound + range.count * (index + 1) / count
        }
    }
}
